BEGIN TRANSACTION;
CREATE TABLE assignments (
	lease VARCHAR(32) NOT NULL,
	kind VARCHAR(16) NOT NULL,
	round INTEGER NOT NULL,
	device_id VARCHAR(63) NOT NULL,
	"plan" TEXT NOT NULL,
	base_version INTEGER NOT NULL,
	manifest_sha256 VARCHAR(64) NOT NULL,
	manifest_bytes INTEGER NOT NULL,
	signature BLOB NOT NULL,
	weights_sha256 VARCHAR(64) NOT NULL,
	weights_bytes INTEGER NOT NULL,
	opened_at FLOAT NOT NULL,
	state VARCHAR(16) NOT NULL,
	reason TEXT DEFAULT '' NOT NULL,
	PRIMARY KEY (lease),
	UNIQUE (kind, round, device_id),
	FOREIGN KEY(device_id) REFERENCES devices (device_id),
	FOREIGN KEY(base_version) REFERENCES versions (number)
);
CREATE TABLE bundle_files (
	"key" VARCHAR(64) NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	size_bytes INTEGER NOT NULL,
	PRIMARY KEY ("key", sha256),
	FOREIGN KEY("key") REFERENCES bundles ("key")
);
CREATE TABLE bundles (
	"key" VARCHAR(64) NOT NULL,
	manifest_sha256 VARCHAR(64) NOT NULL,
	manifest_bytes INTEGER NOT NULL,
	signature BLOB NOT NULL,
	PRIMARY KEY ("key")
);
CREATE TABLE cuts (
	version INTEGER NOT NULL,
	depth INTEGER NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	size_bytes INTEGER NOT NULL,
	norm FLOAT NOT NULL,
	PRIMARY KEY (version, depth),
	FOREIGN KEY(version) REFERENCES versions (number)
);
CREATE TABLE devices (
	device_id VARCHAR(63) NOT NULL,
	serial VARCHAR(64) NOT NULL,
	fingerprint VARCHAR(64) NOT NULL,
	enrolled_at FLOAT NOT NULL,
	last_seen_at FLOAT,
	profile TEXT,
	"plan" TEXT,
	planned_for TEXT DEFAULT '' NOT NULL,
	bundle_key TEXT DEFAULT '' NOT NULL,
	failure TEXT DEFAULT '' NOT NULL,
	PRIMARY KEY (device_id)
);
CREATE TABLE facts (
	name VARCHAR(32) NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (name)
);
CREATE TABLE grants (
	device_id VARCHAR(63) NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	PRIMARY KEY (device_id, sha256),
	FOREIGN KEY(device_id) REFERENCES devices (device_id)
);
CREATE TABLE personal_reports (
	round INTEGER NOT NULL,
	device_id VARCHAR(63) NOT NULL,
	metrics TEXT NOT NULL,
	early_exit TEXT NOT NULL,
	at FLOAT NOT NULL,
	PRIMARY KEY (round, device_id),
	FOREIGN KEY(device_id) REFERENCES devices (device_id)
);
CREATE TABLE refusals (
	id INTEGER NOT NULL,
	round INTEGER NOT NULL,
	device_id VARCHAR(63) NOT NULL,
	sha256 TEXT NOT NULL,
	reason TEXT NOT NULL,
	at FLOAT NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY(device_id) REFERENCES devices (device_id)
);
CREATE TABLE rounds (
	number INTEGER NOT NULL,
	base_version INTEGER NOT NULL,
	state VARCHAR(16) NOT NULL,
	needed INTEGER NOT NULL,
	opened_at FLOAT NOT NULL,
	deadline_at FLOAT NOT NULL,
	closed_at FLOAT,
	reason TEXT DEFAULT '' NOT NULL,
	result_version INTEGER,
	PRIMARY KEY (number),
	FOREIGN KEY(base_version) REFERENCES versions (number),
	FOREIGN KEY(result_version) REFERENCES versions (number)
);
CREATE TABLE tokens (
	sha256 VARCHAR(64) NOT NULL,
	device_id VARCHAR(63) NOT NULL,
	expires_at FLOAT NOT NULL,
	used_at FLOAT,
	request_sha256 TEXT DEFAULT '' NOT NULL,
	certificate BLOB NOT NULL,
	PRIMARY KEY (sha256)
);
CREATE TABLE updates (
	round INTEGER NOT NULL,
	device_id VARCHAR(63) NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	size_bytes INTEGER NOT NULL,
	samples INTEGER NOT NULL,
	depth INTEGER NOT NULL,
	metrics TEXT NOT NULL,
	accepted_at FLOAT NOT NULL,
	PRIMARY KEY (round, device_id),
	FOREIGN KEY(round) REFERENCES rounds (number),
	FOREIGN KEY(device_id) REFERENCES devices (device_id)
);
CREATE TABLE uploads (
	lease VARCHAR(32) NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	size_bytes INTEGER NOT NULL,
	PRIMARY KEY (lease),
	FOREIGN KEY(lease) REFERENCES assignments (lease)
);
CREATE TABLE versions (
	number INTEGER NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	size_bytes INTEGER NOT NULL,
	created_at FLOAT NOT NULL,
	PRIMARY KEY (number)
);
CREATE INDEX ix_assignments_device_id ON assignments (device_id);
INSERT INTO versions VALUES (0, 'v', 3, 1.0);
INSERT INTO tokens VALUES ('t1', 'a', 9.0, 5.0, 'q', x'01'), ('t2', 'b', 9.0, NULL, '', x'');
INSERT INTO devices (device_id, serial, fingerprint, enrolled_at) VALUES ('a', '1f', 'f', 5.0);
COMMIT;
PRAGMA user_version = 1;
