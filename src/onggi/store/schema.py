"""The database of a state root, drawn; `docs` of a column are here and nowhere else.

    tags ──────────> images ───────> blobs          config and manifest of an image
      │                │               ^ ^
      │                v               │ │
      │           image_layers         │ └── blob_links      a manifest and the blobs it lists
      │                │               │
      └── manifest ────┼───────────────┤
                       v               │
                     layers ── tar ────┘                     the kept tar of a received layer
                       ^
                       │
                 snapshot_layers <── snapshots <── containers ──> container_volumes ──> volumes

    networks <── endpoints <── ports      addresses and published ports, of containers or of leases

    leases <── lease_items      blobs, layers and snapshots that a running command still needs

A row promises its files; a file without a row is litter (sweep.py). So files
come before their row and go after it. Exceptions are said in the row itself:

    unsynced    boot id of the boot in which the files were written and not yet
                flushed; another boot must not trust them (unsynced.py); NULL: flushed
    lost        1: the files are known to be gone or wrong. What refers to the row
                stays; receiving the same content again heals it

Times are nanoseconds since the epoch (`_ns`), sizes bytes, digests `sha256:…`.

    blobs       by digest of the raw bytes; file: blobs/<algorithm>/<hex>
    images      id: digest of the config; created_ns: when it came here
    tags        reference in full (`docker.io/library/debian:bookworm`, or with @digest)
    layers      id: random; diff_id: NULL until the tar of a made layer is hashed;
                chain: set if the files are right only on top of this stack, NULL if on any;
                form: how it is kept (layers.py); place: its directory below the root;
                tar: set for received layers; size: bytes of its regular files
    snapshots   key: random, the name of its directory too; kind: view | active
    containers  name: NULL once given up; image_ref: as the user wrote it;
                config: the create request as the engine encoded it, opaque here;
                snapshot: NULL if it has no root file system of ours (any more);
                boot_id: the boot in which it was started last
    volumes     anonymous: 1 if it goes with its container
    leases      a lease lives as long as its lock is held (leases.py)
    networks    last: the number of the address that was given last (networks.py)
    endpoints   who has an address; goes with its container, or with the lease of a command
    ports       what the host's ports lead to, as they are bound: `0.0.0.0`, `::` or one address

    build_cache   key of a step -> the layer that it made; keeps the layer until it is pruned
    build_steps   what the last run of a step was made of, to say why it has to run again
    file_digests  what files of contexts contain, by what stat(2) says of them

    events      id: grows, never used twice; actor: id or name of the object; attributes: JSON

    layer_blobs   what a layer's tar is called when it travels, whether that blob is here or not;
                  level: of the compression, if it was done here; goes with the last layer of its DiffID
    blob_sources  where such a blob has been seen: `host` as credentials are kept, `repository` there
"""

from typing import Final

_FIRST: Final = """
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY, size INTEGER NOT NULL, created_ns INTEGER NOT NULL,
    unsynced TEXT, lost INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_unsynced ON blobs(unsynced) WHERE unsynced IS NOT NULL;

CREATE TABLE blob_links (
    parent TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE,
    child TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE,
    PRIMARY KEY (parent, child)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_links_child ON blob_links(child);

CREATE TABLE layers (
    id TEXT PRIMARY KEY, diff_id TEXT, chain TEXT, form TEXT NOT NULL, place TEXT NOT NULL UNIQUE,
    tar TEXT REFERENCES blobs, size INTEGER NOT NULL, created_ns INTEGER NOT NULL,
    unsynced TEXT, lost INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX layers_diff_id ON layers(diff_id);
CREATE INDEX layers_tar ON layers(tar);
CREATE INDEX layers_unsynced ON layers(unsynced) WHERE unsynced IS NOT NULL;

CREATE TABLE images (
    id TEXT PRIMARY KEY REFERENCES blobs, manifest TEXT REFERENCES blobs, created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX images_manifest ON images(manifest);

CREATE TABLE image_layers (
    image TEXT NOT NULL REFERENCES images ON DELETE CASCADE, position INTEGER NOT NULL,
    layer TEXT NOT NULL REFERENCES layers,
    PRIMARY KEY (image, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layers_layer ON image_layers(layer);

CREATE TABLE tags (
    reference TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images, manifest TEXT REFERENCES blobs,
    created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_image ON tags(image);
CREATE INDEX tags_manifest ON tags(manifest);

CREATE TABLE snapshots (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('view', 'active')),
    volatile INTEGER NOT NULL, created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshot_layers (
    snapshot TEXT NOT NULL REFERENCES snapshots ON DELETE CASCADE, position INTEGER NOT NULL,
    layer TEXT NOT NULL REFERENCES layers,
    PRIMARY KEY (snapshot, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshot_layers_layer ON snapshot_layers(layer);

CREATE TABLE containers (
    id TEXT PRIMARY KEY, name TEXT UNIQUE, image TEXT NOT NULL, image_ref TEXT NOT NULL,
    created_ns INTEGER NOT NULL, config BLOB NOT NULL, auto_remove INTEGER NOT NULL,
    snapshot TEXT REFERENCES snapshots,
    state TEXT NOT NULL CHECK (state IN ('created', 'running', 'paused', 'exited', 'dead')),
    pid INTEGER NOT NULL DEFAULT 0, started_ns INTEGER NOT NULL DEFAULT 0, finished_ns INTEGER NOT NULL DEFAULT 0,
    exit_code INTEGER NOT NULL DEFAULT 0, oom_killed INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    boot_id TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
CREATE INDEX containers_image ON containers(image);
CREATE INDEX containers_snapshot ON containers(snapshot);

CREATE TABLE volumes (
    name TEXT PRIMARY KEY, labels BLOB NOT NULL, anonymous INTEGER NOT NULL, created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE container_volumes (
    container TEXT NOT NULL REFERENCES containers ON DELETE CASCADE,
    volume TEXT NOT NULL REFERENCES volumes,
    PRIMARY KEY (container, volume)
) STRICT, WITHOUT ROWID;
CREATE INDEX container_volumes_volume ON container_volumes(volume);

CREATE TABLE leases (
    id TEXT PRIMARY KEY, purpose TEXT NOT NULL, created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lease_items (
    kind TEXT NOT NULL CHECK (kind IN ('blob', 'layer', 'snapshot')), key TEXT NOT NULL,
    lease TEXT NOT NULL REFERENCES leases ON DELETE CASCADE,
    PRIMARY KEY (kind, key, lease)
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_items_lease ON lease_items(lease);
"""

_BUILDS: Final = """
CREATE TABLE build_cache (
    key TEXT PRIMARY KEY, layer TEXT NOT NULL REFERENCES layers ON DELETE CASCADE,
    created_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX build_cache_layer ON build_cache(layer);

CREATE TABLE build_steps (
    place TEXT PRIMARY KEY, parts BLOB NOT NULL, used_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE file_digests (
    device INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (device, inode)
) STRICT, WITHOUT ROWID;
"""

_NETWORKS: Final = """
CREATE TABLE networks (
    name TEXT PRIMARY KEY, bridge TEXT NOT NULL UNIQUE, subnet4 TEXT NOT NULL, subnet6 TEXT NOT NULL,
    created_ns INTEGER NOT NULL, last INTEGER NOT NULL DEFAULT 1
) STRICT, WITHOUT ROWID;

CREATE TABLE endpoints (
    owner TEXT NOT NULL, network TEXT NOT NULL REFERENCES networks, number INTEGER NOT NULL, link TEXT NOT NULL,
    container TEXT REFERENCES containers ON DELETE CASCADE, lease TEXT REFERENCES leases ON DELETE CASCADE,
    PRIMARY KEY (owner, network), UNIQUE (network, number), CHECK ((container IS NULL) <> (lease IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX endpoints_container ON endpoints(container);
CREATE INDEX endpoints_lease ON endpoints(lease);

CREATE TABLE ports (
    protocol TEXT NOT NULL, host_ip TEXT NOT NULL, host_port INTEGER NOT NULL, container_port INTEGER NOT NULL,
    owner TEXT NOT NULL, network TEXT NOT NULL,
    PRIMARY KEY (protocol, host_port, host_ip),
    FOREIGN KEY (owner, network) REFERENCES endpoints ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX ports_owner ON ports(owner, network);
"""

_EVENTS: Final = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, type TEXT NOT NULL, action TEXT NOT NULL,
    actor TEXT NOT NULL, attributes BLOB NOT NULL
) STRICT;
"""

_TRAVEL: Final = """
CREATE TABLE layer_blobs (
    diff_id TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, compression TEXT NOT NULL, level INTEGER,
    PRIMARY KEY (diff_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_blobs_digest ON layer_blobs(digest);

CREATE TABLE blob_sources (
    digest TEXT NOT NULL, host TEXT NOT NULL, repository TEXT NOT NULL, seen_ns INTEGER NOT NULL,
    PRIMARY KEY (digest, host, repository)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER layers_gone AFTER DELETE ON layers
WHEN NOT EXISTS (SELECT 1 FROM layers WHERE diff_id = OLD.diff_id) BEGIN
    DELETE FROM layer_blobs WHERE diff_id = OLD.diff_id;
END;

CREATE TRIGGER layer_blobs_gone AFTER DELETE ON layer_blobs
WHEN NOT EXISTS (SELECT 1 FROM layer_blobs WHERE digest = OLD.digest) BEGIN
    DELETE FROM blob_sources WHERE digest = OLD.digest;
END;
"""

MIGRATIONS: Final = (_FIRST, _BUILDS, _NETWORKS, _EVENTS, _TRAVEL)
"""The n-th script leads from schema n to n + 1. What has been released is never edited."""
