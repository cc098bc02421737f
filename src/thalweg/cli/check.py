"""`thalweg check ID FORMULA`: is my own formula right?"""

from __future__ import annotations

from typing import Annotated

import typer

from thalweg.cli.common import Json, Save, check_save, show


def check(
    fact: Annotated[str, typer.Argument(metavar="ID", help="The fact, such as F2.8; thalweg facts lists them.")],
    formula: Annotated[
        str,
        typer.Argument(
            metavar="FORMULA",
            help='One expression, which may carry a name: "dL = ...". Without one, the symbols of the fact are listed.',
            show_default=False,
        ),
    ] = "",
    json: Json = False,
    save: Save = None,
) -> None:
    """Hold your own formula for a fact against the truth.

    It is right, or wrong with a counterexample to check by hand.

    thalweg check F2.8 "-(4*T/n**2) * a.T @ mpow(I - S, 2*T-1) @ K @ a"

    thalweg check F2.4 "w1 = w0 - h * X.T @ a"

    Symbols, each where it makes sense: X (n x d), t (n), w0 (d), eta, T, n, d,
    a = X w0 - t, K = X X^T, S = (2 eta/n) K, I (of the size that fits),
    h = 2 eta/n, lam, H = 2 (X^T X/n + lam I), g (the gradient at w0),
    w_lam (the minimiser), e = w0 - w_lam, L(w) (the loss).
    F1.1: X_B, t_B, b, w. F1.2 and F1.4: Xi, ti, Xj, tj, Xk, tk, b, delta.
    F1.6: P. F3.2: k, c_in, c_out, height, width.
    F3.3: k, stride, dilation, layers.

    Operations: + - * / @, ** for powers of numbers, .T, brackets, inv, pinv,
    solve, mpow(M, k), norm, dot, outer, trace, diag, eye(n), sum(v), sqrt,
    exp, log, abs, sign, and sum(mpow(I - S, k) @ a for k in range(T)).

    Right and wrong are both answers and exit with 0; a formula that cannot be
    read exits with 2.
    """
    check_save(save)
    import thalweg as tw

    show(tw.check(fact, formula), json=json, save=save)
