from onggi.host.cgroupfs.probe import probe_cgroups
