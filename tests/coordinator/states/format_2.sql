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
INSERT INTO "assignments" VALUES('l1','federate',1,'a','{"batch_size": 8, "bits": 4, "codec": "int8", "exit_depth": 2, "local_epochs": 1, "models": 1, "why": ["because", "of this"]}',0,'1111111111111111111111111111111111111111111111111111111111111111',3,X'736967','4444444444444444444444444444444444444444444444444444444444444444',5,7.0,'committed','');
INSERT INTO "assignments" VALUES('l2','federate',1,'b','{"batch_size": 8, "bits": 4, "codec": "int8", "exit_depth": 2, "local_epochs": 1, "models": 1, "why": ["because", "of this"]}',0,'1111111111111111111111111111111111111111111111111111111111111111',3,X'736967','4444444444444444444444444444444444444444444444444444444444444444',5,7.0,'refused','too long');
INSERT INTO "assignments" VALUES('l3','federate',2,'a','{"batch_size": 8, "bits": 4, "codec": "int8", "exit_depth": 2, "local_epochs": 1, "models": 1, "why": ["because", "of this"]}',0,'1111111111111111111111111111111111111111111111111111111111111111',3,X'736967','4444444444444444444444444444444444444444444444444444444444444444',5,7.0,'open','');
CREATE TABLE bundle_files (
	"key" VARCHAR(64) NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	size_bytes INTEGER NOT NULL,
	PRIMARY KEY ("key", sha256),
	FOREIGN KEY("key") REFERENCES bundles ("key")
);
INSERT INTO "bundle_files" VALUES('key','2222222222222222222222222222222222222222222222222222222222222222',4);
CREATE TABLE bundles (
	"key" VARCHAR(64) NOT NULL,
	manifest_sha256 VARCHAR(64) NOT NULL,
	manifest_bytes INTEGER NOT NULL,
	signature BLOB NOT NULL,
	PRIMARY KEY ("key")
);
INSERT INTO "bundles" VALUES('key','1111111111111111111111111111111111111111111111111111111111111111',3,X'736967');
CREATE TABLE cuts (
	version INTEGER NOT NULL,
	depth INTEGER NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	size_bytes INTEGER NOT NULL,
	norm FLOAT NOT NULL,
	PRIMARY KEY (version, depth),
	FOREIGN KEY(version) REFERENCES versions (number)
);
INSERT INTO "cuts" VALUES(0,2,'4444444444444444444444444444444444444444444444444444444444444444',5,1.5);
CREATE TABLE devices (
	device_id VARCHAR(63) NOT NULL,
	serial VARCHAR(64) NOT NULL,
	fingerprint VARCHAR(64) NOT NULL,
	enrolled_at FLOAT NOT NULL,
	certificate_ends_at FLOAT,
	next_serial TEXT DEFAULT '' NOT NULL,
	next_fingerprint TEXT DEFAULT '' NOT NULL,
	next_ends_at FLOAT,
	next_request_sha256 TEXT DEFAULT '' NOT NULL,
	next_certificate BLOB,
	revoked_at FLOAT,
	last_seen_at FLOAT,
	profile TEXT,
	"plan" TEXT,
	planned_for TEXT DEFAULT '' NOT NULL,
	bundle_key TEXT DEFAULT '' NOT NULL,
	failure TEXT DEFAULT '' NOT NULL,
	PRIMARY KEY (device_id)
);
INSERT INTO "devices" VALUES('a','1f','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',5.0,99.0,'','',NULL,'',NULL,NULL,NULL,'{"board": "rpi-4b"}','{"batch_size": 8, "bits": 4, "codec": "int8", "exit_depth": 2, "local_epochs": 1, "models": 1, "why": ["because", "of this"]}','x','key','');
INSERT INTO "devices" VALUES('b','1f','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',5.0,99.0,'','',NULL,'',NULL,NULL,NULL,'{"board": "rpi-4b"}','{"batch_size": 8, "bits": 4, "codec": "int8", "exit_depth": 2, "local_epochs": 1, "models": 1, "why": ["because", "of this"]}','x','key','');
CREATE TABLE enrollments (
	token VARCHAR(64) NOT NULL,
	request_sha256 VARCHAR(64) NOT NULL,
	device_id VARCHAR(63) NOT NULL,
	certificate BLOB NOT NULL,
	at FLOAT NOT NULL,
	PRIMARY KEY (token, request_sha256),
	FOREIGN KEY(token) REFERENCES tokens (sha256)
);
INSERT INTO "enrollments" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','q','a',X'0102',5.0);
INSERT INTO "enrollments" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','q','b',X'0102',5.0);
CREATE TABLE facts (
	name VARCHAR(32) NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (name)
);
INSERT INTO "facts" VALUES('contract','abc');
CREATE TABLE grants (
	device_id VARCHAR(63) NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	PRIMARY KEY (device_id, sha256),
	FOREIGN KEY(device_id) REFERENCES devices (device_id)
);
INSERT INTO "grants" VALUES('a','1111111111111111111111111111111111111111111111111111111111111111');
INSERT INTO "grants" VALUES('a','2222222222222222222222222222222222222222222222222222222222222222');
INSERT INTO "grants" VALUES('a','4444444444444444444444444444444444444444444444444444444444444444');
INSERT INTO "grants" VALUES('b','1111111111111111111111111111111111111111111111111111111111111111');
INSERT INTO "grants" VALUES('b','2222222222222222222222222222222222222222222222222222222222222222');
INSERT INTO "grants" VALUES('b','4444444444444444444444444444444444444444444444444444444444444444');
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
INSERT INTO "refusals" VALUES(1,1,'b','6666666666666666666666666666666666666666666666666666666666666666','too long',4.5);
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
INSERT INTO "rounds" VALUES(1,0,'closed',1,2.0,3.0,6.0,'complete',1);
INSERT INTO "rounds" VALUES(2,1,'open',1,7.0,30.0,NULL,'',NULL);
CREATE TABLE tokens (
	sha256 VARCHAR(64) NOT NULL,
	device_id VARCHAR(63) NOT NULL,
	expires_at FLOAT NOT NULL,
	uses INTEGER DEFAULT '1' NOT NULL,
	PRIMARY KEY (sha256)
);
INSERT INTO "tokens" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','a',10.0,1);
INSERT INTO "tokens" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','b',10.0,1);
INSERT INTO "tokens" VALUES('cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','many',10.0,5);
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
INSERT INTO "updates" VALUES(1,'a','5555555555555555555555555555555555555555555555555555555555555555',9,11,2,'{"loss": 0.5}',4.0);
CREATE TABLE uploads (
	lease VARCHAR(32) NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	size_bytes INTEGER NOT NULL,
	PRIMARY KEY (lease),
	FOREIGN KEY(lease) REFERENCES assignments (lease)
);
INSERT INTO "uploads" VALUES('l1','5555555555555555555555555555555555555555555555555555555555555555',9);
CREATE TABLE versions (
	number INTEGER NOT NULL,
	sha256 VARCHAR(64) NOT NULL,
	size_bytes INTEGER NOT NULL,
	created_at FLOAT NOT NULL,
	is_retired BOOLEAN DEFAULT '0' NOT NULL,
	PRIMARY KEY (number)
);
INSERT INTO "versions" VALUES(0,'3333333333333333333333333333333333333333333333333333333333333333',5,1.0,0);
INSERT INTO "versions" VALUES(1,'7777777777777777777777777777777777777777777777777777777777777777',5,6.0,0);
CREATE INDEX ix_assignments_device_id ON assignments (device_id);
COMMIT;
PRAGMA user_version = 2;
