"""What must never reach a file of a dataset."""

import re

SECRET_PATTERN = re.compile(
    r"[?&](sig|token|x-amz-[a-z-]+|x-goog-[a-z-]+|signature|key)=|://[^/\s\"]*:[^/\s\"]*@", re.I
)
"""What a signed URL or one with a password looks like."""
