"""Property tests here have no wall-clock deadline: it would fail on busy machines, and they check results, not speed."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
