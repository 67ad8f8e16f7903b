"""Floor 5: base images from a Debian or Ubuntu archive, without a registry and without dpkg on the host.

The archive keys that are shipped in keys/, by fingerprint:

    1f89983e0081fde018f3cc9673a4f27b8dd47936  Debian Archive Automatic Signing Key (11/bullseye)
    ac530d520f2f3269f5e98313a48449044aad5c5d  Debian Security Archive Automatic Signing Key (11/bullseye)
    a4285295fc7b1a81600062a9605c66f00d6c9793  Debian Stable Release Key (11/bullseye)
    4d64fec119c2029067d6e791f8d2585b8783d481  Debian Stable Release Key (12/bookworm)
    b8b80b5b623eab6ad8775c45b7c5d7d6350947f8  Debian Archive Automatic Signing Key (12/bookworm)
    05ab90340c0c5e797f44a8c8254cf3b5aec0a8f0  Debian Security Archive Automatic Signing Key (12/bookworm)
    04b54c3cdca79751b16bc6b5225629df75b188bd  Debian Archive Automatic Signing Key (13/trixie)
    5e04a1e3223a19a20706e20f9904613d4cce68c6  Debian Security Archive Automatic Signing Key (13/trixie)
    41587f7db8c774bccf131416762f67a0b2c39de4  Debian Stable Release Key (13/trixie)

A test compares this list with the files. Ubuntu's keys are taken from an Ubuntu host's own
keyring, where only these two count:

    790B C727 7767 219C 42C8  6F93 3B4F E6AC C0B2 1F32  Ubuntu Archive Automatic Signing Key (2012)
    F6EC B376 2474 EDA9 D21B  7022 8719 20D1 991B C93C  Ubuntu Archive Automatic Signing Key (2018)
"""
