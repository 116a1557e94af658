"""Frozen models in a browser: elman.js, the core as WebAssembly (`make wasm`), and pages (docs/browser.md)."""

from elman.web.pages import PAGES, module, page

__all__ = ["PAGES", "module", "page"]
