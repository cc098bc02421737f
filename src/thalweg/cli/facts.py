"""`thalweg facts [ID]`: the ledger of facts."""

from __future__ import annotations

from typing import Annotated

import typer

from thalweg.cli.common import Json, Save, check_save, show


def facts(
    fact: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One fact, worked step by step; all when left out.")
    ] = None,
    json: Json = False,
    save: Save = None,
) -> None:
    """Every fact of the handbook, computed and checked here and now, and its wrong versions refuted.

    thalweg facts
    thalweg facts F1.5w
    """
    check_save(save)
    import thalweg as tw

    show(tw.facts(fact), json=json, save=save)
