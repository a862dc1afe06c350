"""Places for stores."""

from tests.places import bucket, memory, s3_server

__all__ = ["bucket", "memory", "s3_server"]
