"""Pictures, read back pixel by pixel, and files that are replaced whole or not at all."""

import errno
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image

import tinygan
from tinygan import Tensor
from tinygan.datasets import Mixture
from tinygan.files import UsageError, replacing
from tinygan.functions import sigmoid
from tinygan.layers import Dense, LeakyReLU, Sequential, Tanh
from tinygan.normalization import BatchNorm
from tinygan.plots import (
    grid,
    landscape,
    save_animation,
    save_curves,
    save_graph,
    save_grid,
    save_laboratory,
    save_path,
    save_roc,
    save_sheet,
)
from tinygan.tensor import TapeError


def shades(count, height=2, width=3, channels=1):
    """Images of one shade each: image i has bytes of value 10 i."""
    bytes_ = numpy.arange(count, dtype="float32")[:, None, None, None] * 10
    return numpy.broadcast_to(bytes_ / 127.5 - 1, (count, height, width, channels))


def pixels(picture):
    return numpy.asarray(picture)


# ---------------------------------------------------------------- grids


@pytest.mark.parametrize(
    ("count", "columns", "scale", "gap", "rows"),
    [(6, 3, 1, 1, 2), (7, 3, 2, 1, 3), (1, 1, 3, 1, 1), (2, 4, 1, 2, 1), (4, 2, 1, 0, 2)],
)
def test_images_lie_row_by_row_with_white_between(count, columns, scale, gap, rows):
    picture = grid(shades(count), columns, scale, gap)
    expected = numpy.full((rows * (2 + gap) - gap, columns * (3 + gap) - gap), 255)
    for i in range(count):
        top, left = i // columns * (2 + gap), i % columns * (3 + gap)
        expected[top : top + 2, left : left + 3] = 10 * i
    assert picture.mode == "L"
    assert numpy.array_equal(pixels(picture), expected.repeat(scale, 0).repeat(scale, 1))


def test_minus_one_is_black_and_one_is_white_and_more_is_no_more():
    image = numpy.array([-2.0, -1, -0.5, 0, 0.5, 1, 2]).reshape(1, 1, 7, 1)
    assert pixels(grid(image, columns=1, scale=1)).tolist() == [[0, 0, 64, 128, 191, 255, 255]]


def test_three_channels_are_red_green_and_blue():
    image = numpy.array([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]]).reshape(1, 1, 3, 3)
    picture = grid(image, columns=1, scale=1)
    assert picture.mode == "RGB"
    assert pixels(picture).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


def test_an_image_stands_upright():
    image = numpy.array([[-1.0, 1], [1, 1], [1, 1]]).reshape(1, 3, 2, 1)
    assert pixels(grid(image, columns=1, scale=1)).tolist() == [[0, 255], [255, 255], [255, 255]]


def test_eight_images_in_a_row_unless_said_otherwise():
    assert grid(shades(64, 28, 28)).size == (3 * (8 * 29 - 1), 3 * (8 * 29 - 1))


def test_images_are_left_as_they_were():
    images = shades(4).copy()
    grid(images)
    assert numpy.array_equal(images, shades(4))


def test_a_saved_grid_is_a_png_of_the_same_pixels(tmp_path):
    path = tmp_path / "new" / "folder" / "grid.png"
    save_grid(shades(5), path, columns=2)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert numpy.array_equal(pixels(picture), pixels(grid(shades(5), 2)))


# ---------------------------------------------------------------- animations


def frames_of(path):
    with Image.open(path) as animation:
        for i in range(animation.n_frames):
            animation.seek(i)
            yield numpy.asarray(animation.convert("L")), animation.info["duration"]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_animation_shows_the_frames_in_their_order_and_lingers_on_the_last(tmp_path, count):
    paths = [tmp_path / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        save_grid(shades(i + 2)[-1:], path, columns=1)
    save_animation(paths, tmp_path / "all.gif", milliseconds=150)
    frames = list(frames_of(tmp_path / "all.gif"))
    seen = [int(frame.mean().round()) for frame, _ in frames]
    assert seen == [10 * (i + 1) for i in range(count)]
    if count > 1:
        assert [duration for _, duration in frames] == [150] * (count - 1) + [2000]


def test_an_animation_repeats_for_ever(tmp_path):
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    for i, path in enumerate(paths):
        save_grid(shades(i + 1)[-1:], path)
    save_animation(paths, tmp_path / "all.gif")
    with Image.open(tmp_path / "all.gif") as animation:
        assert animation.info["loop"] == 0


def test_colours_survive_in_an_animation(tmp_path):
    red = numpy.array([1.0, -1, -1]).reshape(1, 1, 1, 3)
    for name, image in [("0", red), ("1", -red)]:
        save_grid(image, tmp_path / f"{name}.png", columns=1)
    save_animation([tmp_path / "0.png", tmp_path / "1.png"], tmp_path / "all.gif")
    with Image.open(tmp_path / "all.gif") as animation:
        assert numpy.asarray(animation.convert("RGB"))[0, 0].tolist() == [255, 0, 0]
        animation.seek(1)
        assert numpy.asarray(animation.convert("RGB"))[0, 0].tolist() == [0, 255, 255]


# ---------------------------------------------------------------- curves


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, so that their curves can be read."""
    from matplotlib.figure import Figure

    seen, save = [], Figure.savefig

    def savefig(figure, *arguments, **options):
        seen.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return seen


STEPS = list(range(10, 2010, 10))  # 200 rows: a fiftieth is 4 of them
NOISE = numpy.random.default_rng(0).standard_normal((3, 200))
PANELS = {"losses": {"D loss": NOISE[0], "G loss": NOISE[1]}, "answers": {"D(x)": NOISE[2]}}


def test_each_panel_has_its_title_and_the_names_of_its_curves(tmp_path, figures):
    save_curves(STEPS, PANELS, tmp_path / "curves.png")
    (figure,) = figures
    assert [axes.get_title() for axes in figure.axes] == ["losses", "answers"]
    names = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert names == [["D loss", "G loss"], ["D(x)"]]
    assert all(axes.get_xlabel() == "step" for axes in figure.axes)


def test_a_curve_is_shown_as_logged_and_as_its_running_mean(tmp_path, figures):
    save_curves(STEPS, PANELS, tmp_path / "curves.png")
    raw, mean = figures[0].axes[1].lines
    assert raw.get_xdata().tolist() == STEPS and numpy.array_equal(raw.get_ydata(), NOISE[2])
    assert mean.get_xdata().tolist() == STEPS[3:]  # a mean stands where its last row does
    expected = [NOISE[2][i : i + 4].mean() for i in range(197)]
    numpy.testing.assert_allclose(mean.get_ydata(), expected, atol=1e-12)
    assert raw.get_color() == mean.get_color() and raw.get_alpha() < 1


def test_a_level_is_marked_in_its_panel_alone(tmp_path, figures):
    save_curves(STEPS, PANELS, tmp_path / "curves.png", {"answers": (0.5, "1/2")})
    losses, answers = figures[0].axes
    assert len(losses.lines) == 4 and len(answers.lines) == 3
    assert list(answers.lines[-1].get_ydata()) == [0.5, 0.5]
    assert answers.get_legend().get_texts()[-1].get_text() == "1/2"


def test_two_rows_are_enough_for_curves(tmp_path, figures):
    save_curves([1, 2], {"loss": {"D": [3.0, 4.0]}}, tmp_path / "curves.png")
    for line in figures[0].axes[0].lines:
        assert line.get_xdata().tolist() == [1, 2] and list(line.get_ydata()) == [3, 4]


def test_saved_curves_are_a_png_that_shows_something(tmp_path):
    save_curves(STEPS, PANELS, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG" and picture.width > 2 * picture.height
        assert pixels(picture.convert("L")).std() > 10


def test_roc_curves_stand_by_name_beside_chance(tmp_path, figures):
    false, true = numpy.array([0, 0.1, 1]), numpy.array([0, 0.8, 1])
    save_roc({"distance": (false, true), "noise": (true, true)}, tmp_path / "roc.png")
    (axes,) = figures[0].axes
    assert [line.get_label() for line in axes.lines] == ["distance", "noise", "chance"]
    assert list(axes.lines[0].get_xdata()) == [0, 0.1, 1]
    assert list(axes.lines[0].get_ydata()) == [0, 0.8, 1]
    with Image.open(tmp_path / "roc.png") as picture:
        assert picture.format == "PNG" and pixels(picture.convert("L")).std() > 10


def test_a_path_joins_its_points_in_order_and_names_them(figures, tmp_path):
    points = {"all": (0.8, 0.7), "$1": (0.5, 0.9), "few": (0.1, 1.0)}
    save_path(points, tmp_path / "path.png", "recall", "precision")
    (axes,) = figures[0].axes
    (line,) = axes.lines
    assert [*zip(line.get_xdata(), line.get_ydata(), strict=True)] == [*points.values()]
    assert [text.get_text() for text in axes.texts] == ["all", r"\$1", "few"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("recall", "precision")
    with Image.open(tmp_path / "path.png") as picture:
        assert picture.format == "PNG" and pixels(picture.convert("L")).std() > 10


# ---------------------------------------------------------------- files


def test_nothing_lies_around_afterwards(tmp_path):
    save_grid(shades(2), tmp_path / "grid.png")
    save_animation([tmp_path / "grid.png"], tmp_path / "all.gif")
    save_curves(STEPS, PANELS, tmp_path / "curves.png")
    save_grid(shades(3), tmp_path / "grid.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.gif", "curves.png", "grid.png"]


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)), replacing(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_while_it_is_written_the_old_file_can_be_read(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == path.parent
    assert path.read_text() == "new"


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(UsageError, match=r"cannot write .*file\.txt: No space left.*; make room"):
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "save",
    [
        lambda path: save_grid(shades(2), path),
        lambda path: save_curves(STEPS, PANELS, path),
    ],
)
def test_a_folder_that_is_a_file_is_one_sentence(tmp_path, save):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .*file.picture\.png.*another folder"):
        save(tmp_path / "file" / "picture.png")


# ---------------------------------------------------------------- the tape


def drawn(figure):
    """What a picture of a tape says: each box's first line, and the arrows between them."""
    (axes,) = figure.axes
    boxes = {text.get_bbox_patch(): text.get_text().split("\n")[0]
             for text in axes.texts if text.get_text()}
    arrows = [text.arrow_patch for text in axes.texts if not text.get_text()]
    ways = {(boxes[arrow.patchA], boxes[arrow.patchB], arrow.get_linestyle()) for arrow in arrows}
    assert len(boxes) == len(axes.texts) - len(arrows)
    return boxes.values(), ways


@pytest.fixture
def leaves():
    """x (2, 3) data, w (3, 1) and b (1,) learning, v (2, 1) learning but detached."""
    x, v = Tensor(numpy.ones((2, 3))), Tensor(numpy.ones((2, 1)), requires_grad=True)
    w, b = (Tensor(numpy.ones(shape), requires_grad=True) for shape in [(3, 1), (1,)])
    return x, w, b, v.detach()


def test_a_tape_shows_operations_leaves_and_constants_and_the_ways_between(
    tmp_path, figures, leaves
):
    x, w, b, cut = leaves
    loss = ((x @ w + b) * cut).sum()
    save_graph(loss, tmp_path / "tape.png", {x: "x", w: "w", b: "b", loss: "loss"}, "a title")
    boxes, ways = drawn(figures[0])
    assert sorted(boxes) == ["add", "b", "constant", "loss = sum", "matmul", "multiply", "w", "x"]
    flowing = {("loss = sum", "multiply"), ("multiply", "add"), ("add", "matmul"), ("add", "b"),
               ("matmul", "w")}
    assert ways == {(*way, "-") for way in flowing} | {
        ("x", "matmul", ":"), ("constant", "multiply", ":")
    }
    assert figures[0].axes[0].get_title() == "a title"


def test_a_constant_that_no_derivative_needs_is_said_in_the_box(tmp_path, figures, leaves):
    x, w, b, cut = leaves
    save_graph((x @ w + cut) * 2.0, tmp_path / "tape.png")
    boxes, _ = drawn(figures[0])
    assert sorted(boxes) == ["add (constant)", "constant", "leaf", "matmul", "multiply (constant)"]


def test_a_frozen_network_is_grey_and_what_lies_before_it_still_learns(tmp_path, figures):
    G, D = Dense(2, 3), Dense(3, 1)
    with D.frozen():
        loss = D(G(Tensor(numpy.ones((4, 2), dtype="float32")))).sum()
    save_graph(loss, tmp_path / "tape.png", {D.weight: "D", G.weight: "G", G.bias: "bias of G"})
    _, ways = drawn(figures[0])
    assert {("D", "matmul", ":"), ("matmul", "G", "-"), ("add", "bias of G", "-")} <= ways
    assert not any(end == "D" for _, end, _ in ways)


def test_nothing_in_a_tape_lies_on_something_else(tmp_path, figures):
    layers = Sequential(Dense(2, 3), BatchNorm(3), LeakyReLU(), Dense(3, 3), Tanh(), Dense(3, 1))
    x, y = (Tensor(numpy.ones((4, 2), dtype="float32")) for _ in range(2))
    loss = (layers(x) - layers(y)).mean()
    save_graph(loss, tmp_path / "tape.png")
    texts = [text for text in figures[0].axes[0].texts if text.get_text()]
    frames = [text.get_bbox_patch().get_window_extent() for text in texts]
    assert len(frames) > 25
    assert not [(a, b) for i, a in enumerate(frames) for b in frames[:i] if a.overlaps(b)]


def test_arrows_lead_upwards_from_the_output(tmp_path, figures, leaves):
    x, w, b, _ = leaves
    h = x @ w
    save_graph((h * h + b).sum(), tmp_path / "tape.png")
    arrows = [text for text in figures[0].axes[0].texts if not text.get_text()]
    solid = [arrow for arrow in arrows if arrow.arrow_patch.get_linestyle() == "-"]
    assert len(solid) == 5 and len(arrows) == 6  # h * h leads to h by one arrow; x is constant
    assert all(arrow.xy[1] > arrow.get_position()[1] for arrow in solid)


def test_equal_numbers_are_not_taken_for_the_same_tensor(tmp_path, figures, leaves, monkeypatch):
    """Whatever == between tensors means."""
    monkeypatch.setattr(Tensor, "__eq__", lambda self, other: True)
    w, twin = leaves[1], Tensor(numpy.ones((3, 1)))
    save_graph((w * twin).sum(), tmp_path / "tape.png", {w: "w", twin: "twin"})
    boxes, ways = drawn(figures[0])
    assert sorted(boxes) == ["multiply", "sum", "twin", "w"]
    assert ("twin", "multiply", ":") in ways and ("multiply", "w", "-") in ways


def test_a_tape_can_still_be_walked_after_its_picture(tmp_path, leaves):
    x, w, b, _ = leaves
    loss = (x @ w + b).sum()
    save_graph(loss, tmp_path / "tape.png")
    loss.backward()
    assert w.grad.numpy().tolist() == [[2.0]] * 3


def test_a_tape_that_is_freed_cannot_be_drawn(tmp_path, leaves):
    loss = (leaves[0] @ leaves[1]).sum()
    loss.backward()
    with pytest.raises(TapeError, match="backward\\(\\) ran over it already"):
        save_graph(loss, tmp_path / "tape.png")
    assert not list(tmp_path.iterdir())


def test_the_pictures_of_the_readme_are_those_of_the_library(tmp_path):
    """The command beside the pictures makes them: the boxes are where they were."""
    folder = Path(__file__).parents[1] / "demos" / "pictures"
    program = tmp_path / "tapes.py"
    program.write_text((folder / "tapes.py").read_text())
    subprocess.run([sys.executable, program], check=True)
    for name in ("tape_d_step.png", "tape_g_step.png"):
        with Image.open(tmp_path / name) as new, Image.open(folder / name) as kept:
            assert max(abs(a - b) for a, b in zip(new.size, kept.size, strict=True)) < 20


# ---------------------------------------------------------------- points in the plane


def judge(*weights):
    """A D that weighs the numbers of a pack."""
    return lambda packs: packs @ Tensor(numpy.float32(weights)[:, None])


NOBODY = numpy.zeros((0, 2), "float32")


def test_the_landscape_is_ds_answer_with_x_to_the_right_and_y_upwards():
    seen = landscape(lambda x: sigmoid(judge(1.0, 0.1)(x)), NOBODY, 1, side=2.0)
    expected = [1 / (1 + numpy.exp(-(x + 0.1 * y))) for x, y in [(-2, -2), (2, -2), (-2, 2)]]
    numpy.testing.assert_allclose([seen[0, 0], seen[0, -1], seen[-1, 0]], expected, rtol=1e-5)
    assert seen.shape == (64, 64)


def test_where_d_sees_pairs_the_landscape_is_the_mean_over_generated_partners():
    partners = numpy.zeros((480, 2), "float32")
    partners[:8, 0] = 100.0  # of the 16 that are asked, 8 make D sure of everything
    seen = landscape(lambda x: sigmoid(judge(0.0, 0.0, 1.0, 0.0)(x)), partners, 2, side=1.0)
    numpy.testing.assert_allclose(seen, (1 + 0.5) / 2, rtol=1e-5)


def test_answers_that_are_no_probabilities_are_shown_from_the_lowest_to_the_highest():
    seen = landscape(judge(5.0, 0.0), NOBODY, 1, side=1.0)
    numpy.testing.assert_allclose(seen[3], numpy.linspace(0, 1, 64), atol=1e-6)
    for flat in (judge(0.0, 0.0), lambda x: judge(0.0, 0.0)(x) + 5.0):
        assert not landscape(flat, NOBODY, 1, side=1.0).any()


RING = Mixture(numpy.float32([[1, 0], [0, 1], [-1, 0], [0, -1]]), 0.05)


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 2, 1), (3, 1, 3), (7, 3, 3)])
def test_a_sheet_shows_each_run_over_real_points_beside_its_curves(
    tmp_path, figures, count, rows, columns
):
    runs = {f"run {i}": (NOISE[:2].T + i, STEPS, {"D(x)": NOISE[2]}) for i in range(count)}
    save_sheet(runs, RING, tmp_path / "sheet.png")
    panels = figures[0].axes
    assert len(panels) == 2 * rows * columns
    for i in range(count):
        points, lines = panels[2 * i : 2 * i + 2]
        real, samples = (drawn.get_offsets() for drawn in points.collections)
        assert points.get_title() == f"run {i}" and numpy.array_equal(samples, NOISE[:2].T + i)
        away = numpy.linalg.norm(real[:, None] - RING.centers, axis=2).min(axis=1)
        assert len(real) == 1000 and 0.03 < away.mean() < 0.1
        assert [line.get_label() for line in lines.lines] == ["D(x)"]
        assert list(lines.lines[0].get_xdata()) == STEPS
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == pytest.approx((6.6 * columns * 90, 2.9 * rows * 90), abs=2)


def test_a_sheet_before_the_first_step_has_no_curves_and_draws_no_random_numbers(tmp_path):
    before = tinygan.backend.generator.bit_generator.state
    save_sheet({"one": (NOISE[:2].T, [], {})}, RING, tmp_path / "sheet.png")
    assert tinygan.backend.generator.bit_generator.state == before


def laboratory(path, **changes):
    rows, columns = numpy.mgrid[0:8, 0:8]
    moment = {
        "real": NOISE[:2].T, "fake": NOISE[1:].T, "pushes": numpy.array([[0.0, 2.0], [1.0, 0.0]]),
        "landscape": (columns + 0.1 * rows) / 8, "side": 2.0, "steps": STEPS[:50],
        "panels": {name: {label: values[:50] for label, values in curves.items()}
                   for name, curves in PANELS.items()},
        "last": 2000, "title": "step 500",
    }
    save_laboratory(path, **moment | changes)


def test_the_laboratory_shows_points_pushes_and_curves_up_to_now(tmp_path, figures):
    laboratory(tmp_path / "view.png")
    plane, _, losses, answers = figures[0].axes
    land, real, fake, arrows = plane.collections
    assert numpy.array_equal(real.get_offsets(), NOISE[:2].T)
    assert numpy.array_equal(fake.get_offsets(), NOISE[1:].T)
    assert numpy.array_equal(arrows.get_offsets(), NOISE[1:].T[:2])  # they start at their points
    # One scale for all, and the longest is a quarter of the half side.
    numpy.testing.assert_allclose(numpy.stack([arrows.U, arrows.V], 1), [[0, 0.5], [0.25, 0]])
    assert plane.get_title() == "step 500" and plane.get_xlim() == plane.get_ylim() == (-2, 2)
    assert [axes.get_title() for axes in (losses, answers)] == ["losses", "answers"]
    assert losses.get_xlim() == (0, 2000)
    assert list(losses.lines[1].get_ydata()) == list(NOISE[1][:50])


def test_the_landscape_is_red_where_d_answers_generated_and_blue_where_real(tmp_path):
    nothing = numpy.zeros((0, 2))
    laboratory(tmp_path / "view.png", real=nothing, fake=nothing, pushes=nothing)
    with Image.open(tmp_path / "view.png") as picture:
        width, height = picture.size
        left, right = (
            numpy.asarray(picture.convert("RGB").crop((x - 5, height - 90, x + 5, height - 80)))
            .mean(axis=(0, 1)) for x in (round(0.1 * width), round(0.42 * width))
        )
    assert left[0] > left[2] + 50 and right[2] > right[0] + 50


def test_where_the_gradient_vanishes_no_arrow_is_drawn(tmp_path, figures):
    laboratory(tmp_path / "view.png", pushes=numpy.zeros((3, 2)))
    arrows = figures[0].axes[0].collections[-1]
    assert not arrows.U.any() and not arrows.V.any()
