"""``sqc cache``: the compiled kernels on disk."""

from __future__ import annotations

import click


@click.command(short_help="Show or clear the compiled kernels kept on disk.")
@click.option("--clear", is_flag=True, help="Remove all of them.")
def command(clear: bool) -> None:
    """Show the folder that keeps compiled kernels for later compiles, and its size.

    SQC_CACHE_DIR names another folder, SQC_CACHE_MIB bounds its size (default: 512), SQC_CACHE=off does without it.
    """
    from sqc.cli import ui
    from sqc.codegen.cache import open_cache

    cache = open_cache()
    if cache is None:
        ui.say("no cache: SQC_CACHE is off, or there is no home directory and SQC_CACHE_DIR names no folder")
        return
    before, _ = cache.usage()
    if clear:
        cache.clear()
    files, size = cache.usage()
    removed = f", {before - files} removed" if clear else ""
    ui.say(f"{cache.folder}: {files} files, {ui.kilobytes(size)} of {ui.kilobytes(cache.limit)}{removed}")
