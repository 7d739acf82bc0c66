"""Alembic's folder: `env` connects, `versions` holds one file a revision, oldest first."""
