-- Models, their versions, the queue of builds, their logs, applications.
-- Times are milliseconds since the epoch, UTC. Identities are never given twice (AUTOINCREMENT), since clients keep them.

CREATE TABLE model (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT   NOT NULL UNIQUE,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL
);

-- Apart from `model`, and not deleted with it: a number that was given once is never given again.
CREATE TABLE numbering (
    model_name  TEXT   NOT NULL PRIMARY KEY,
    last_number BIGINT NOT NULL CHECK (last_number > 0)
);

CREATE TABLE model_version (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    model_id          BIGINT NOT NULL REFERENCES model (id) ON DELETE CASCADE,
    number            BIGINT NOT NULL CHECK (number > 0),
    created_ms        BIGINT NOT NULL,
    finished_ms       BIGINT,
    model_type        TEXT,
    description       TEXT,
    metadata_json     TEXT   NOT NULL,
    contract_json     TEXT,
    contract_protobin BLOB,
    contract_dialect  TEXT,
    runtime           TEXT,
    image_reference   TEXT,
    digest            TEXT,
    report_json       TEXT,
    error_stage       TEXT,
    error_cause       TEXT,
    error_remedy      TEXT,
    UNIQUE (model_id, number)
);

-- The queue: the row is the job. `attempt` counts the claims and is the fencing token; `lapses` counts those that nobody ended.
CREATE TABLE build (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    version_id     BIGINT NOT NULL UNIQUE REFERENCES model_version (id) ON DELETE CASCADE,
    status         TEXT   NOT NULL CHECK (status IN ('Pending', 'Running', 'Failed', 'Finished')),
    attempt        BIGINT NOT NULL,
    lapses         BIGINT NOT NULL,
    lease_until_ms BIGINT,
    started_ms     BIGINT,
    tree_digest    TEXT   NOT NULL,
    request_json   TEXT   NOT NULL
);
CREATE INDEX build_status ON build (status, id);

CREATE TABLE build_log (
    build_id BIGINT NOT NULL REFERENCES build (id) ON DELETE CASCADE,
    line     BIGINT NOT NULL,
    at_ms    BIGINT NOT NULL,
    level    TEXT   NOT NULL CHECK (level IN ('info', 'warning', 'error')),
    text     TEXT   NOT NULL,
    PRIMARY KEY (build_id, line)
);

CREATE TABLE application (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT   NOT NULL UNIQUE,
    created_ms BIGINT NOT NULL,
    graph_json TEXT   NOT NULL
);

-- Which versions an application's graph names; a version that is in here cannot be deleted.
CREATE TABLE application_use (
    application_id BIGINT NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    version_id     BIGINT NOT NULL REFERENCES model_version (id) ON DELETE RESTRICT,
    PRIMARY KEY (application_id, version_id)
);
CREATE INDEX application_use_version ON application_use (version_id);
