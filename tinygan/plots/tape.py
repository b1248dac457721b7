"""The tape as a picture: which operations a result came from, and where its gradients flow."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import replacing
from ..tensor import Tensor, history


def save_graph(
    output: Tensor, path: Path, names: Mapping[Tensor, str] | None = None, title: str = ""
) -> None:
    """Write the tape behind output as a PNG. Call it before backward(), which frees the tape.

    White: an operation and the shape of its result. Red arrows: where the gradients flow, from
    output up to the leaves, green, that receive one. Grey: constants (data, what was detached or
    made under no_grad, frozen parameters), along dotted lines that no gradient takes. The tape
    keeps no constants: they are found in the derivatives that need them, and "(constant)" in a
    box stands for one that none needs (the b of a + b) or for a number. names: what to call
    tensors. Raises TapeError where the tape is freed.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tape = history(output)[::-1]  # from the youngest: a tensor comes after all that used it
    constants = {tensor: _constants(tensor) for tensor in tape}
    column, row = _layout(tape, constants)
    left, right = min(column.values()) - 0.7, max(column.values()) + 0.7
    bottom, top = min(row.values()) - 0.5, max(row.values()) + 0.5
    figure = Figure(figsize=(1.75 * (right - left), 0.6 * (top - bottom) + 1), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(left, right), ylim=(bottom, top), title=title)
    axes.axis("off")
    boxes = {}
    for tensor in row:
        name = (names or {}).get(tensor, "")
        if tensor.operation:
            lone = len(tensor.parents) + len(constants[tensor]) == 1
            label = tensor.operation + " (constant)" * (lone and tensor.operation in _OF_TWO)
            label, face, edge = f"{name} = {label}" if name else label, "white", "black"
        elif tensor in constants:
            label, face, edge = name or "leaf", "#d5f0d0", "green"
        else:
            label, face, edge = name or "constant", "#e6e6e6", "grey"
        boxes[tensor] = axes.text(
            column[tensor], row[tensor], f"{label}\n{tensor.shape or 'a number'}", size=9,
            ha="center", va="center", bbox={"boxstyle": "round", "fc": face, "ec": edge},
        ).get_bbox_patch()
    for tensor in tape:
        ways = [(used, tensor, "-", "grey", ":") for used in constants[tensor]]
        ways += [(tensor, parent, "-|>", "crimson", "-") for parent in set(tensor.parents)]
        for start, end, style, color, line in ways:
            look = {"arrowstyle": style, "color": color, "linestyle": line, "linewidth": 1.6,
                    "patchA": boxes[start], "patchB": boxes[end], "shrinkA": 2, "shrinkB": 2}
            axes.annotate("", (column[end], row[end]), (column[start], row[start]),
                          arrowprops=look, zorder=0)
    figure.legend(handles=[
        Line2D([], [], color="crimson", label="the way of the gradients in backward()"),
        Line2D([], [], color="grey", linestyle=":", label="used as a constant: no gradient"),
        Line2D([], [], color="green", marker="s", linestyle="", label="receives a gradient"),
    ], loc="outside lower center", fontsize=8, ncols=1 + (right - left > 4))
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)


_OF_TWO = {"add", "subtract", "multiply", "divide", "maximum", "matmul"}


def _constants(tensor: Tensor) -> list[Tensor]:
    """What a recorded operation used, but no gradient flows to: held by its derivatives alone."""
    cells = [cell for function in tensor.derivatives for cell in function.__closure__ or ()]
    used = [cell.cell_contents for cell in cells]
    parents = set(tensor.parents)  # which compares by identity
    return list(dict.fromkeys(
        t for t in used if isinstance(t, Tensor) and t not in parents and not t.parents
    ))


def _layout(
    tape: Sequence[Tensor], constants: Mapping[Tensor, Sequence[Tensor]]
) -> tuple[dict[Tensor, float], dict[Tensor, float]]:
    """Column and row of each tensor: below what it was made from, near to what it went into."""
    row, column, wishes = {tape[0]: 0}, {}, {tape[0]: [0.0]}
    for tensor in reversed(tape):
        if tensor.operation:
            row[tensor] = min((row[p] for p in tensor.parents if p.operation), default=0) - 1
    for tensor in tape:
        for used in (*tensor.parents, *constants[tensor]):
            if not used.operation:
                row[used] = max(row.get(used, -math.inf), row[tensor] + 1)
    # From below. In a row operations choose first and so form straight lines.
    for tensor in sorted(row, key=lambda t: (row[t], not t.operation, t in constants, t.age)):
        wish = sum(wishes[tensor]) / len(wishes[tensor])
        taken = [column[other] for other in column if row[other] == row[tensor]]
        free = (wish + side * step / 2 for step in range(2 * len(row)) for side in (1, -1))
        column[tensor] = next(x for x in free if all(abs(x - other) >= 1 for other in taken))
        inner = dict.fromkeys(parent for parent in tensor.parents if parent.operation)
        aside = {parent: 2 * i - len(inner) + 1 for i, parent in enumerate(inner)}
        for used in (*tensor.parents, *constants.get(tensor, ())):
            wishes.setdefault(used, []).append(column[tensor] + aside.get(used, 0))
    return column, row
