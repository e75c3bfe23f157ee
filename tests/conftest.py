"""Every shape annotation is checked while tests run."""

from jaxtyping import install_import_hook

hook = install_import_hook("byrote", "typecheck.check")
