-- Who this store belongs to: written by `swarm init`, never changed.
CREATE TABLE identity (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    swarm_id BLOB NOT NULL,
    device TEXT NOT NULL,
    key_public BLOB NOT NULL
) STRICT;

-- What pruning leaves behind. `seal` is set until the first start turns it into record 0 of the chain.
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seal BLOB,
    boot INTEGER NOT NULL,
    base_count INTEGER NOT NULL,
    base_hash BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    attest_n INTEGER,
    attest_epoch INTEGER,
    attest_height INTEGER,
    attest_digest BLOB,
    attest_signature BLOB,
    attest_hash BLOB
) STRICT;

-- The chain of own signatures from its base on (R10).
CREATE TABLE records (
    n INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    number INTEGER NOT NULL,
    digest BLOB NOT NULL,
    signature BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- Live and small: only views above the finalized one.
CREATE TABLE proposals (
    epoch INTEGER NOT NULL,
    view INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (epoch, view)
) STRICT, WITHOUT ROWID;

CREATE TABLE certificates (
    epoch INTEGER NOT NULL,
    view INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (epoch, view, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE blocks (
    hash BLOB PRIMARY KEY,
    header BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE own_submissions (
    id BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The bytes of every submission, once. `final` 0 and 1 have the same width, so finalizing rewrites one page only.
CREATE TABLE submissions (
    row INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    final INTEGER NOT NULL,
    raw BLOB NOT NULL
) STRICT;

-- The log: append-only from here on.
CREATE TABLE log (
    height INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    epoch INTEGER NOT NULL,
    view INTEGER NOT NULL,
    header BLOB NOT NULL,
    counts BLOB NOT NULL
) STRICT;

-- The FC that names the log's block of this view.
CREATE TABLE finality (
    epoch INTEGER NOT NULL,
    view INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (epoch, view)
) STRICT, WITHOUT ROWID;

-- A leaf of kind 1 is one byte and a submission: it refers to it. Any other leaf has its own data.
CREATE TABLE leaves (
    position INTEGER PRIMARY KEY,
    height INTEGER NOT NULL,
    submission INTEGER,
    data BLOB,
    origin TEXT,
    incarnation INTEGER,
    sequence INTEGER,
    CHECK ((submission IS NULL) <> (data IS NULL))
) STRICT;

CREATE INDEX leaves_sequence ON leaves (origin, incarnation, sequence) WHERE origin IS NOT NULL;

CREATE TABLE keys (
    key BLOB PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Perfect subtrees numbered in order, so that a growing log appends: (level, index) is ((2 index + 1) << level) - 1.
CREATE TABLE nodes (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL
) STRICT;

CREATE TABLE snapshots (
    height INTEGER PRIMARY KEY,
    state BLOB NOT NULL
) STRICT;

CREATE TABLE checkpoints (
    height INTEGER PRIMARY KEY,
    log_size INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE INDEX checkpoints_log_size ON checkpoints (log_size, height);

-- One pair a voter and combination of kinds convicts; more would let one liar fill the disk.
CREATE TABLE evidence (
    epoch INTEGER NOT NULL,
    voter INTEGER NOT NULL,
    first_kind INTEGER NOT NULL,
    second_kind INTEGER NOT NULL,
    first BLOB NOT NULL,
    second BLOB NOT NULL,
    PRIMARY KEY (epoch, voter, first_kind, second_kind)
) STRICT, WITHOUT ROWID;
