"""Floor 5: base images from a Debian or Ubuntu archive, without a registry and without dpkg on the host.

names → which suites → sources (where) → release (signed) → packages (what) → deb (how they are packed),
and `scripts`, which are run in a container of the new files. All of it is pure.

The archive keys that are shipped in keys/, by fingerprint:

    4d64fec119c2029067d6e791f8d2585b8783d481  Debian Stable Release Key (12/bookworm)
    b8b80b5b623eab6ad8775c45b7c5d7d6350947f8  Debian Archive Automatic Signing Key (12/bookworm)
    05ab90340c0c5e797f44a8c8254cf3b5aec0a8f0  Debian Security Archive Automatic Signing Key (12/bookworm)
    04b54c3cdca79751b16bc6b5225629df75b188bd  Debian Archive Automatic Signing Key (13/trixie)
    5e04a1e3223a19a20706e20f9904613d4cce68c6  Debian Security Archive Automatic Signing Key (13/trixie)
    41587f7db8c774bccf131416762f67a0b2c39de4  Debian Stable Release Key (13/trixie)

A test compares this list with the files. Ubuntu's keys are taken from an Ubuntu host's own
keyring, where only these two count:

    790bc7277767219c42c86f933b4fe6acc0b21f32  Ubuntu Archive Automatic Signing Key (2012)
    f6ecb3762474eda9d21b7022871920d1991bc93c  Ubuntu Archive Automatic Signing Key (2018)
"""
