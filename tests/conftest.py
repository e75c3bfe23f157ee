"""Every shape annotation is checked while tests run, and nothing is remembered from one session to the next."""

import atexit
import os
import tempfile

from jaxtyping import install_import_hook

cache = tempfile.TemporaryDirectory(prefix="byrote-cache-")
atexit.register(cache.cleanup)
os.environ["BYROTE_CACHE"] = cache.name

hook = install_import_hook("byrote", "typecheck.check")
