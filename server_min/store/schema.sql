-- SPDX-License-Identifier: Apache-2.0
-- State of a hub. Times are unix seconds; ids and hashes are raw bytes. Blobs lie beside it, named by their SHA-256.

CREATE TABLE IF NOT EXISTS tokens (
    secret_hash BLOB PRIMARY KEY,   -- the secret itself is never stored
    task TEXT NOT NULL,
    expires INTEGER NOT NULL,
    device BLOB                     -- the first key that used it
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS devices (
    id BLOB PRIMARY KEY,
    key BLOB NOT NULL,
    class TEXT NOT NULL,
    task TEXT NOT NULL,
    enrolled REAL NOT NULL,
    certificate BLOB NOT NULL,
    revoked REAL,
    -- from the newest poll
    polled REAL NOT NULL DEFAULT 0,
    n INTEGER NOT NULL DEFAULT -1,
    model BLOB,
    sequence INTEGER NOT NULL DEFAULT -1,
    round BLOB,
    estimate_ms INTEGER NOT NULL DEFAULT 0,
    samples INTEGER NOT NULL DEFAULT 0,
    runtime TEXT NOT NULL DEFAULT '',
    event TEXT NOT NULL DEFAULT '',
    rejected INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS nonces (
    key BLOB NOT NULL,
    nonce BLOB NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (key, nonce)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS nonces_created ON nonces (created);

CREATE TABLE IF NOT EXISTS tasks (
    name TEXT PRIMARY KEY,
    task BLOB NOT NULL,             -- Task, canonical CBOR
    settings BLOB NOT NULL,         -- n_max, quorum, close_at, deadline_s: not part of what devices hash
    added REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS releases (
    task TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    envelope BLOB NOT NULL,         -- blob of the signed Release
    file BLOB NOT NULL,
    size INTEGER NOT NULL,
    "full" BLOB NOT NULL,
    full_size INTEGER NOT NULL,
    patch_size INTEGER,             -- from the release before; NULL for the first
    probe BLOB NOT NULL,
    master BLOB NOT NULL,           -- blob of the int64 master weights that this release was rounded from
    round BLOB,
    cohort INTEGER NOT NULL,
    label TEXT NOT NULL,
    issued INTEGER NOT NULL,
    PRIMARY KEY (task, sequence)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS releases_envelope ON releases (envelope);

CREATE TABLE IF NOT EXISTS blobs (
    sha256 BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    kind TEXT NOT NULL,
    round BLOB,
    cohort INTEGER NOT NULL,
    parents BLOB NOT NULL           -- hashes, concatenated
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS schedule (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    task TEXT NOT NULL,
    remaining INTEGER NOT NULL,     -- rounds still to start; -1: for ever
    every_s REAL NOT NULL,
    due REAL NOT NULL
);

CREATE TABLE IF NOT EXISTS rounds (
    id BLOB PRIMARY KEY,
    run INTEGER NOT NULL,           -- schedule.id
    task TEXT NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    sequence INTEGER NOT NULL,      -- the release that it starts from
    manifest BLOB NOT NULL,         -- envelope
    h BLOB NOT NULL,
    quorum INTEGER NOT NULL,
    close_at INTEGER NOT NULL,
    deadline REAL NOT NULL,
    cohort INTEGER NOT NULL DEFAULT 0,
    members BLOB,                   -- the set S as both hubs signed it
    masked_sum BLOB,                -- blob of the unmasked sum, int64
    opened_at REAL NOT NULL,
    collecting_at REAL,
    closed_at REAL,
    unmasked_at REAL,
    published_at REAL,
    installed_at REAL,
    UNIQUE (task, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rounds_run ON rounds (run);

CREATE TABLE IF NOT EXISTS transitions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    round BLOB NOT NULL,
    state TEXT NOT NULL,
    t REAL NOT NULL,
    cohort INTEGER NOT NULL,
    reason TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS invitations (
    round BLOB NOT NULL,
    device BLOB NOT NULL,
    declined TEXT,                  -- the reason
    PRIMARY KEY (round, device)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS reports (
    round BLOB NOT NULL,
    device BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    nonce BLOB NOT NULL,
    header BLOB NOT NULL,
    payload BLOB NOT NULL,          -- blob, masked
    size INTEGER NOT NULL,
    received REAL NOT NULL,
    helper INTEGER,                 -- NULL: not answered yet, 1 accepted, 0 refused
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (round, device)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS reports_nonce ON reports (round, nonce);

-- At a helper: seeds and round keys are never here, only what it has accepted and answered.
CREATE TABLE IF NOT EXISTS helped (
    id BLOB PRIMARY KEY,
    manifest BLOB NOT NULL,         -- envelope with the helper's own signature
    h BLOB NOT NULL,
    quorum INTEGER NOT NULL,
    state TEXT NOT NULL,            -- open, answered, void
    reason TEXT NOT NULL DEFAULT '',
    opened_at REAL NOT NULL,
    ended_at REAL,
    members BLOB,                   -- payload of the one set that was answered
    answer BLOB                     -- blob of the answer: signed set and R
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS journal (
    round BLOB NOT NULL,
    device BLOB NOT NULL,
    nonce BLOB NOT NULL,
    class TEXT NOT NULL,
    header_hash BLOB NOT NULL,
    PRIMARY KEY (round, device)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS journal_nonce ON journal (round, nonce);
