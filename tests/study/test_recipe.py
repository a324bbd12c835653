"""Recipes: read, brought to a scale, changed, and refused where they could not run."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_helpers import TINY, written

from robust_transfer.data import load_task
from robust_transfer.data.classes import only_classes
from robust_transfer.errors import ConfigError, RobustTransferError
from robust_transfer.study.reading import SCALES, load_recipe, packaged
from robust_transfer.study.recipe import Cell, cells, columns, matches


def test_the_grid_is_every_combination_once(tmp_path: Path) -> None:
    block = TINY["grid"][0]
    recipe = load_recipe(written(tmp_path, grid=[block, {**block, "seed": [1, 2]}]))
    found = [tuple(columns(cell).values()) for cell in cells(recipe)]
    wanted = [
        ("robust", "few", strategy, None, None, seed, "near", *l2)
        for seed in (0, 1, 2)
        for strategy, values in (("probe", [(1.0,), (0.01,)]), ("tuned", [()]))
        for l2 in values
    ]
    assert sorted(found, key=repr) == sorted(wanted, key=repr)
    assert len(found) == 9


def test_a_scale_is_merged_over_the_rest(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert (load_recipe(path).scale, len(cells(load_recipe(path)))) == ("laptop", 6)
    smoke = load_recipe(path, scale="smoke")
    assert (smoke.scale, len(cells(smoke))) == ("smoke", 2)
    assert smoke.sources == load_recipe(path).sources
    with pytest.raises(ConfigError, match="did you mean 'smoke'"):
        load_recipe(path, scale="smok")


def test_changes_are_put_in_their_place(tmp_path: Path) -> None:
    changes = ["grid.0.seed=[3]", "strategies.tuned.set.epochs=2", "sources.robust.pretrain.set.epochs=0.5"]
    recipe = load_recipe(written(tmp_path), changes=changes)
    assert {cell.seed for cell in cells(recipe)} == {3}
    assert recipe.strategies["tuned"].set == {"epochs": 2}
    assert recipe.sources["robust"].pretrain is not None
    assert recipe.sources["robust"].pretrain.set["epochs"] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["grid.7.seed=[0]"], "grid is a list of 1"),
        (["grid.0.sed=[0]"], r"setting of grid\.0 'sed': did you mean 'seed'"),
        (["sorces.x=1"], "did you mean 'sources'"),
        (["name.x=1"], "name is a single value"),
        (["grid.0.source=[robst]"], r"grid\.0\.source: unknown name 'robst': did you mean 'robust'"),
        (["grid.0.strategy=[prob]"], "did you mean 'probe'"),
        (["grid.0.evaluation=[far]"], r"grid\.0\.evaluation"),
        (["grid.0.shots=[0]"], "shots are at least 1"),
        (["strategies.tuned.strategy=fine-tun"], "did you mean 'fine-tune'"),
        (["strategies.tuned.set.epoch=2"], r"strategies\.tuned: .*'epoch': did you mean 'epochs'"),
        (["strategies.probe.each.l2=[1.0, -1.0]"], r"strategies\.probe: .*positive"),
        (["strategies.probe.each.l2=[]"], "would leave no cell"),
        (["sources.robust.pretrain.method=fats"], "did you mean 'fast'"),
        (["sources.robust.pretrain.method=fare"], "starts from a checkpoint: train it by `pretrain --from`"),
        (["sources.robust.pretrain.network=wrn_61_1"], "wrn_61_1"),
        (["sources.robust.pretrain.task=digit"], "did you mean 'digits'"),
        (["sources.robust.pretrain.threat=linf 8"], "threat"),
        (["sources.robust.use=bundled"], "either `use` or `pretrain`"),
        (["evaluations.near.attack=pdg-2"], r"evaluations\.near: .*did you mean 'pgd'"),
        (["evaluations.near.threat=linf:8"], r"evaluations\.near: .*8/255"),
        (["evaluations.near.examples=0"], "at least 1"),
        (["evaluations.near.also=[l3:1]"], r"evaluations\.near: .*l3"),
        (["evaluations.near.also=['linf:0.05']"], "linf:0.05 is the evaluated threat"),
        (["tasks.few.data=cifar10"], r"tasks\.few\.data"),
        (["grid=[]"], "nothing to run"),
        (["claims=[{says: x, of: {source: natural}}]"], r"claims\.0: no cell"),
        (["claims=[{says: x, of: {strategy: probe}}]"], r"claims\.0: .*several cells a seed"),
        (["claims=[{says: x, of: {strategy: tuned}, less: {strategy: tuned, seed: 0}}]"], "give both the same"),
        (["claims=[{says: x, of: {strategy: tuned}, above: {strategy: nothing}}]"], r"claims\.0: no cell"),
        (["claims=[{says: x, of: {strategy: tuned}, above: {strategy: probe}, level: cost}]"], "against one thing"),
        (["plots=[{x: set.l3}]"], r"plots\.0: .*did you mean 'set.l2'"),
        (["plots=[{x: set.l2, by: sorce}]"], "did you mean 'source'"),
        (["claims=[{of: {source: robust}}]"], r"claims\.0 lacks says"),
        (["tasks=3"], "tasks must be a mapping"),
        (["plots=3"], "plots must be a list"),
    ],
)
def test_what_could_not_run_is_refused_by_its_place(tmp_path: Path, changes: list[str], message: str) -> None:
    with pytest.raises(RobustTransferError, match=message):
        load_recipe(written(tmp_path), changes=changes)


def test_what_is_no_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="unknown recipe 'zzz'"):
        load_recipe("zzz")
    for part in ("scales", "data"):
        with pytest.raises(ConfigError, match=f"{part} must be a mapping"):
            load_recipe(written(tmp_path, **{part: ["x"]}))
    assert load_recipe(written(tmp_path, scales=None, data=None)).scale == ""
    for text, message in (("- 1", "not a recipe"), ("a: [", "not YAML"), ("name: x", "lacks title")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_recipe(tmp_path / "bad.yaml")


def test_cells_are_picked_by_column() -> None:
    cell = Cell(source="a", task="t", strategy="s", shots=None, seed=0, evaluation="e", each={"l2": 0.1})
    assert matches(cell, {"source": "a", "set.l2": 0.1, "shots": None})
    assert not matches(cell, {"set.l2": 0.2})
    assert not matches(cell, {"set.depth": None})


NAMES = ("cifar10", "cifar100", "imagenette", "tiny-imagenet")  # of the data that packaged recipes ask for


@pytest.mark.parametrize("name", list(packaged()))
@pytest.mark.parametrize("scale", SCALES)
def test_every_packaged_recipe_is_valid_at_every_scale(name: str, scale: str) -> None:
    recipe = load_recipe(name, scale=scale, data=dict.fromkeys(NAMES, "a"))
    assert recipe.name == name
    assert recipe.filters or (recipe.claims and (recipe.plots or recipe.fronts))


def test_some_classes_of_a_task() -> None:
    whole = load_task("builtin:digits")
    some = only_classes(whole, ["7", 3])
    assert some.class_names == ("7", "3")
    for mine, all_ in ((some.train, whole.train), (some.val, whole.val), (some.test, whole.test)):
        kept = (all_.labels == 7) | (all_.labels == 3)
        assert mine.ids.tolist() == all_.ids[kept].tolist()
        assert mine.labels.tolist() == (all_.labels[kept] == 3).long().tolist()
        assert (mine.images() == all_.images()[kept]).all()
    wrong: list[tuple[list[str | int], str]] = [
        (["8", 8], "named once"),
        (["eight", 1], "unknown class"),
        ([10, 1], "from 0 to 9"),
        ([1], "at least 2"),
    ]
    for classes, message in wrong:
        with pytest.raises(ConfigError, match=message):
            only_classes(whole, classes)


def test_a_recipe_makes_no_python_objects(tmp_path: Path) -> None:
    for tag in ("!!python/object/apply:os.system [touch canary]", "!!python/name:os.system", "!!python/module:os"):
        (tmp_path / "recipe.yaml").write_text(f"name: {tag}\n")
        with pytest.raises(ConfigError, match="could not determine a constructor"):
            load_recipe(tmp_path / "recipe.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
