"""Layer archives: tar read from strangers and written canonically (image-spec, layer.md).

    decompress   bytes as received → the uncompressed, hashed, bounded stream
    reader       stream → entries and their data     (entry, fields, pax, sparse, window: its parts)
    unpack       entries → a tree, in the form of overlayfs for layers      (paths: clean names)
    pack         a tree → entries                    (writer: their headers)

The parser is pure; files are touched through host/tree.py, planter.py, reading.py only.
"""
