"""A stack of well-known parts that does Arbiter's job: Feast on Redis, LightGBM, zen-engine, FastAPI.

It runs in an environment of its own (requirements.txt), as its pins clash with Arbiter's, and imports nothing
of Arbiter's: what it decides with is in one JSON file, its plan.
"""
