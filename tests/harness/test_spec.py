"""The sweep file: what it means, and what every mistake in it is answered with."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from harness.source import lay_over, read, write
from harness.spec import SpecError, SweepSpec, load_sweep, load_training

Sweep = Callable[..., SweepSpec]
SHIPPED = sorted(Path(__file__).parents[2].glob("sweeps/*.yaml"))


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Write a sweep file, then load it."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *overrides: str, profile: str | None = None) -> SweepSpec:
        (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
        return load_sweep("s.yaml", profile, overrides)

    return load


def refusal(sweep: Sweep, text: str, *overrides: str, profile: str | None = None) -> str:
    with pytest.raises(SpecError) as error:
        sweep(text, *overrides, profile=profile)
    assert "\n" not in str(error.value)
    return str(error.value)


MISTAKES = {
    "an unknown key": ("name: a\nsceintific: {}\n", "s.yaml:2: sceintific: unknown key; did you mean 'scientific'?"),
    "an unknown key of a part": (
        "name: a\nbase:\n  epochs: 2\n  method: {lam: 0.1}\n",
        "s.yaml:4: base.method.lam: unknown key; did you mean 'lamb'?",
    ),
    "an unknown method": (
        "name: a\nbase:\n  method: {name: lejepe}\n",
        "s.yaml:3: base.method: 'lejepe' is not known; did you mean 'lejepa'?",
    ),
    "an unknown encoder": (
        "name: a\nscientific:\n  encoder.name:\n    grid:\n      - small_resnet\n      - resnet188\n",
        "s.yaml:6: scientific.encoder.name: unknown encoder 'resnet188'; did you mean 'resnet18'?",
    ),
    "a word for a number": (
        "name: a\nbase:\n  batch_size: many\n",
        "s.yaml:3: base.batch_size: input should be a valid int",
    ),
    "λ above one in a grid": (
        "name: a\nscientific:\n  method.lamb:\n    grid:\n      - 0\n      - 1.5\n",
        "s.yaml:6: scientific.method.lamb: input should be less than or equal to 1, not 1.5",
    ),
    "λ above one in a search": (
        "name: a\nnuisance:\n  method.lamb: {uniform: [0, 2]}\n",
        "s.yaml:3: nuisance.method.lamb: input should be less than or equal to 1, not 2",
    ),
    "a negative seed": ("name: a\nseeds: [0, -1]\n", "s.yaml:2: seeds: -1 is no seed"),
    "a seed twice": ("name: a\nseeds: [1, 1]\n", "s.yaml:2: seeds: seed 1 is listed twice"),
    "zero trials": ("name: a\nseeds: 0\n", "s.yaml:2: seeds: 0 seeds make zero trials"),
    "seeds beyond counting": (f"name: a\nseeds: {10**30}\n", "s.yaml:2: seeds: 1000000000000000000000000000000 seeds"),
    "a list for the name of a method": (
        "name: a\nbase:\n  method: {name: [x]}\n",
        "is not known; known are lejepa, vicreg",
    ),
    "a number for the arms": ("name: a\narms: 3\n", "s.yaml:2: arms: must be a mapping of keys, not 3"),
    "an empty grid": (
        "name: a\nscientific: {method.lamb: {grid: []}}\n",
        "s.yaml:2: scientific.method.lamb: an empty grid",
    ),
    "a bare list": ("name: a\nscientific: {method.lamb: [0, 1]}\n", "write {grid: [0,1]}"),
    "an unknown space": (
        "name: a\nscientific: {method.lamb: {gird: [0]}}\n",
        "unknown space 'gird'; did you mean 'grid'?",
    ),
    "a range as scientific": ("name: a\nscientific: {method.lamb: {uniform: [0, 1]}}\n", "compared value by value"),
    "log scale from zero": ("name: a\nnuisance: {optimizer.lr: {log_uniform: [0, 1]}}\n", "needs it above 0"),
    "an unknown parameter": (
        "name: a\nscientific:\n  method.lambda: {grid: [0.1]}\n",
        "s.yaml:3: scientific.method.lambda: unknown key; did you mean 'lamb'?",
    ),
    "a parameter that an arm inherits but cannot take": (
        "name: a\nscientific:\n  method.lamb: {grid: [0.1]}\narms:\n  l: {}\n  v: {base: {method: {name: vicreg}}}\n",
        "(arm 'v' inherits it; give the arm its own `scientific`)",
    ),
    "the seed as a parameter": ("name: a\nscientific: {seed: {grid: [1]}}\n", "seeds are listed in `seeds`"),
    "the seed in the base": ("name: a\nbase: {seed: 1}\n", "s.yaml:2: base.seed: not here"),
    "a role twice": (
        "name: a\nscientific: {optimizer.lr: {grid: [0.1]}}\nnuisance: {optimizer.lr: {grid: [0.2]}}\n",
        "nuisance optimizer.lr sets the same thing",
    ),
    "the same cell twice": (
        "name: a\nscientific:\n  method.lamb:\n    grid:\n      - 0\n      - 0.0\n",
        "s.yaml:6: scientific.method.lamb: 0.0 is the same training as 0 at s.yaml:5",
    ),
    "the same arm twice": (
        "name: a\narms:\n  a: {}\n  b: {}\n",
        "s.yaml:4: arms.b: the same trainings as arm 'a' at s.yaml:3",
    ),
    "a floor with parameters": (
        "name: a\narms: {p: {base: {method: {name: pixels}}, scientific: {data.size: {grid: [16]}}}}\n",
        "s.yaml:2: arms.p: a floor trains nothing",
    ),
    "a contrast with an unknown arm": (
        "name: a\narms:\n  alpha: {}\n  v: {base: {method: {name: vicreg}}}\ncontrast: [alhpa, v]\n",
        "s.yaml:5: contrast: there is no arm 'alhpa'; did you mean 'alpha'?",
    ),
    "a contrast across encoders": (
        "name: a\narms:\n  r: {}\n  v: {base: {encoder: {name: small_vit}}}\ncontrast: [r, v]\n",
        "s.yaml:5: contrast: across encoders (small_resnet, small_vit)",
    ),
    "an unknown metric": ("name: a\nmetric: {name: val/linar}\n", "did you mean 'val/linear'?"),
    "a shot that is not measured": (
        "name: a\nmetric: {name: val/shot5}\n",
        "s.yaml:2: metric.name: 'val/shot5' is not measured",
    ),
    "selection on test": ("name: a\nmetric: {name: test/knn}\n", "s.yaml:2: metric: test/knn would select on test"),
    "stopping without a search": ("name: a\nstopping: {name: asha}\n", "s.yaml:2: stopping: no arm has `nuisance`"),
    "a search without parameters": ("name: a\nsearch: {trials: 3}\n", "s.yaml:2: search: no arm has `nuisance`"),
    "stopping that censors the curve": (
        "name: a\nscientific: {method.lamb: {grid: [0, 0.1]}}\nnuisance: {optimizer.lr: {grid: [0.1, 0.2]}}\n"
        "stopping: {scope: sweep}\n",
        "s.yaml:4: stopping: scope sweep would stop whole cells",
    ),
    "a range for the grid sampler": (
        "name: a\nnuisance: {optimizer.lr: {uniform: [0.1, 0.2]}}\nsearch: {sampler: grid}\n",
        "s.yaml:2: nuisance.optimizer.lr: sampler grid cannot list all of a uniform",
    ),
    "a default beside a grid": (
        "name: a\nnuisance: {optimizer.lr: {grid: [0.1, 0.2]}}\nsearch: {sampler: grid, defaults_first: true}\n",
        "s.yaml:3: search: sampler grid runs all combinations and no other",
    ),
    "a budget below the design": (
        "name: a\nbudget: {trials: 2}\n",
        "s.yaml:2: budget.trials: the design needs 3, not 2",
    ),
    "grace as long as the trials": (
        "name: a\nbase: {epochs: 4}\nnuisance: {optimizer.lr: {grid: [0.1, 0.2]}}\nstopping:\n  grace: 4\n",
        "s.yaml:5: stopping.grace: 4 epochs of grace and trials of 4 epochs: none would be stopped",
    ),
    "a budget that leaves nothing to confirm": (
        "name: a\nbase: {epochs: 4}\nnuisance: {optimizer.lr: {uniform: [0.1, 0.2]}}\nsearch: {trials: 3}\n"
        "stopping: {name: asha}\nbudget: {epochs: 14}\n",
        "s.yaml:6: budget.epochs: the design needs at least 15, not 14",
    ),
    "a name that leaves the folder": ("name: ../x\n", "s.yaml:1: name: '../x' is no name"),
    "no name": ("base: {}\n", "name is missing"),
    "a patch that does not divide": (
        "name: a\nbase:\n  encoder: {name: small_vit, patch: 5}\n",
        "small_vit cuts images into patches of 5; data.size = 32 is no multiple",
    ),
    "YAML that does not parse": ("name: a\nbase: {epochs: 2\nseeds: 3\n", "s.yaml:3: not valid YAML"),
    "a key twice": (
        "name: a\nbase:\n  epochs: 2\n  epochs: 3\n",
        "s.yaml:4: base.epochs: given twice, first at s.yaml:3",
    ),
    "a list for a file": ("- a\n", "s.yaml:1: the document: must be a mapping"),
    "an empty file": ("", "must be a mapping"),
    "an alias that holds itself": ("name: &a [*a]\n", "nested too deeply"),
    "a control character": ("name: \x07\n", "s.yaml: not valid YAML"),
    "half a character": ('name: a\n"\\ud83c": 1\n', "a word holds half a character"),
    "an unprintable arm": ('name: a\narms: {"a\\nb": {}}\n', "is no name for an arm"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_its_place_and_its_remedy(sweep: Sweep, mistake: str) -> None:
    text, answer = MISTAKES[mistake]
    assert answer in refusal(sweep, text)


OVERRIDES = {
    "base.epoch=3": "--set base.epoch=3: base.epoch: unknown key; did you mean 'epochs'?",
    "base.epochs": "--set base.epochs: an override is a dotted key, `=` and a value",
    "base.epochs=[": "--set base.epochs=[:1: not valid YAML",
    "scientific.method.lamb.grid=[0, 2]": "--set scientific.method.lamb.grid=[0, 2]: scientific.method.lamb: input",
    "profile=gpu": "a profile is chosen with --profile",
    "=3": "an override is a dotted key",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_wrong_override_is_answered_with_itself(sweep: Sweep, override: str) -> None:
    text = "name: a\nscientific: {method.lamb: {grid: [0, 0.1]}}\n"
    assert OVERRIDES[override] in refusal(sweep, text, override)


def test_a_missing_file_names_the_nearest_shipped_sweep() -> None:
    with pytest.raises(SpecError, match="there is no such file; did you mean 'quickstart'"):
        load_sweep("quikstart")


def test_a_folder_is_no_sweep_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is a folder"):
        load_sweep(tmp_path)


def test_a_shipped_sweep_is_found_by_its_name_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_sweep("quickstart") == load_sweep("sweeps/quickstart.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_sweep_holds_in_every_profile(path: Path) -> None:
    if path.stem == "published":
        pytest.skip("a table of published numbers, not a sweep")
    for profile in (None, *yaml.safe_load(path.read_text()).get("profiles", {})):
        assert load_sweep(path, profile).profile == profile


def test_numbers_with_an_exponent_are_numbers_and_the_word_on_is_a_word(sweep: Sweep) -> None:
    spec = sweep("name: a\nbase:\n  optimizer: {lr: 1e-3}\n  probe: {on: projection}\nseeds: [010]\n")
    config = spec.config(spec.cells()[0], 0)
    assert (config.optimizer.lr, config.probe.on, spec.seeds) == (1e-3, "projection", (10,))


def test_an_override_reaches_parameters_and_arms_with_dots_in_their_names(sweep: Sweep) -> None:
    text = "name: a\nscientific: {method.lamb: {grid: [0, 0.1]}}\narms: {x.y: {}, v: {base: {epochs: 9}}}\n"
    spec = sweep(text, "scientific.method.lamb.grid=[0.3]", "arms.x.y.base.epochs=7", "seeds=1")
    assert [dict(cell.values) for cell in spec.cells()] == [{"method.lamb": 0.3}] * 2
    assert [spec.config(cell, 0).epochs for cell in spec.cells()] == [7, 9]
    assert spec.seeds == (0,)
    named = sweep(text, "base.data.limit=90", "base.data.name=cifar10")  # in whatever order they are given
    assert {"limit": 90, "name": "cifar10"}.items() <= named.base["data"].items()


def test_a_profile_is_laid_over_the_file_and_an_override_over_the_profile(sweep: Sweep) -> None:
    text = "name: a\nbase: {epochs: 2, batch_size: 32}\nprofiles:\n  big: {base: {epochs: 9}, seeds: 5}\n"
    spec = sweep(text, "base.epochs=4", profile="big")
    assert (spec.base, len(spec.seeds), spec.profile) == ({"epochs": 4, "batch_size": 32}, 5, "big")
    assert sweep(text).profile is None


def test_a_profile_takes_back_with_null_what_the_file_gives(sweep: Sweep) -> None:
    text = (
        "name: a\nnuisance: {optimizer.lr: {uniform: [0.1, 0.2]}}\nsearch: {trials: 3}\nstopping: {grace: 2}\n"
        "profiles:\n  plain: {nuisance: null, search: null, stopping: null}\n  blind: {confirm: null}\n"
    )
    plain = sweep(text, profile="plain")
    assert plain == sweep("name: a\n").model_copy(update={"profile": "plain"})
    assert sweep(text).confirm
    assert sweep(text, profile="blind").confirm is None


def test_a_profile_takes_back_a_parameter_or_an_arm_with_null(sweep: Sweep) -> None:
    text = (
        "name: a\nscientific: {method.lamb: {grid: [0, 0.1]}, epochs: {grid: [1, 2]}}\n"
        "arms:\n  a: {base: {batch_size: 32}}\n  b: {scientific: {epochs: {grid: [3]}}}\n  c:\n"
        "profiles:\n  p:\n    scientific: {epochs: null}\n"
        "    arms: {c: null, b: {scientific: {epochs: null, batch_size: {grid: [64]}}}, d: null}\n"
    )
    assert list(sweep(text).arms) == ["a", "b", "c"]  # null in the file itself: an arm that adds nothing
    taken = sweep(text, profile="p")
    assert list(taken.arms) == ["a", "b", "d"]
    assert [list(arm.scientific) for arm in taken.arms.values()] == [["method.lamb"], ["batch_size"], ["method.lamb"]]


def test_the_random_floor_may_vary_in_its_encoder_and_in_nothing_else(sweep: Sweep) -> None:
    text = "name: a\nscientific: {epochs: {grid: [1, 2]}}\narms:\n  l: {}\n  r:\n    base: {method: {name: random}}\n"
    wide = sweep(text + "    scientific: {encoder.width: {grid: [16, 32]}}\n")
    assert [(cell.arm, dict(cell.values)) for cell in wide.cells()][2:] == [
        ("r", {"encoder.width": 16}),
        ("r", {"encoder.width": 32}),
    ]
    assert "nothing in it can vary" in refusal(sweep, text + "    scientific: {batch_size: {grid: [16, 32]}}\n")
    assert "nothing in it can vary" in refusal(sweep, text + "    nuisance: {encoder.width: {grid: [16, 32]}}\n")


def test_a_wrong_profile_is_refused(sweep: Sweep) -> None:
    text = "name: a\nprofiles:\n  gpu:\n    base:\n      epochs: 0\n"
    assert "did you mean 'gpu'?" in refusal(sweep, text, profile="gpuu")
    assert refusal(sweep, text, profile="gpu").startswith("s.yaml:5: base.epochs: input should be greater")
    assert "the file has none" in refusal(sweep, "name: a\n", profile="gpu")


def test_a_part_whose_name_changes_starts_afresh() -> None:
    under = {"method": {"name": "lejepa", "lamb": 0.1}, "data": {"size": 16}, "encoder": {"width": 8}}
    over = {"method": {"name": "vicreg"}, "data": {"name": "cifar10"}, "encoder": {"name": "small_resnet"}}
    assert lay_over(under, over) == {
        "method": {"name": "vicreg"},
        "data": {"name": "cifar10"},
        "encoder": {"name": "small_resnet", "width": 8},  # the default's own name: nothing changes
    }


def test_a_profile_replaces_a_space_whole() -> None:
    under = {"scientific": {"method.lamb": {"grid": [0]}, "epochs": {"grid": [1]}}}
    over = {"scientific": {"method.lamb": {"choice": [1]}}}
    assert lay_over(under, over)["scientific"] == {"method.lamb": {"choice": [1]}, "epochs": {"grid": [1]}}


def test_an_arm_inherits_what_it_leaves_out_and_replaces_what_it_gives(sweep: Sweep) -> None:
    text = (
        "name: a\nbase: {method: {lamb: 0.3}}\nscientific: {method.lamb: {grid: [0, 0.1]}}\n"
        "nuisance: {optimizer.lr: {log_uniform: [1e-4, 1e-2]}}\n"
        "arms:\n  own: {scientific: {epochs: {grid: [3]}}}\n  all: {}\n  floor: {base: {method: {name: random}}}\n"
    )
    arms = sweep(text).arms
    assert list(arms["own"].scientific) == ["epochs"]
    assert list(arms["own"].nuisance) == list(arms["all"].nuisance) == ["optimizer.lr"]
    assert arms["floor"].scientific == arms["floor"].nuisance == {}


def test_one_arm_is_named_after_the_method(sweep: Sweep) -> None:
    assert list(sweep("name: a\nbase: {method: {name: vicreg}}\n").arms) == ["vicreg"]
    assert list(sweep("name: a\n").arms) == ["lejepa"]


@pytest.mark.parametrize("name", ["<script>", 'a"b', "λ = 0", "🌊", "on", "1e3"])
def test_any_printable_arm_and_any_question_survive_the_resolved_file(sweep: Sweep, name: str, tmp_path: Path) -> None:
    spec = sweep(f"name: a\nquestion: {json.dumps(name)}\narms: {{{json.dumps(name)}: {{}}}}\n")
    assert list(spec.arms) == [name]
    (tmp_path / "resolved.yaml").write_text(spec.to_yaml(), encoding="utf-8")
    assert load_sweep(tmp_path / "resolved.yaml") == spec
    assert SweepSpec.model_validate(yaml.safe_load(spec.to_yaml())) == spec


def test_the_resolved_file_says_everything_once_more(sweep: Sweep, tmp_path: Path) -> None:
    text = (
        "name: a\nscientific: {method.lamb: {grid: [0, 1e-2]}}\nnuisance: {optimizer.lr: {log_uniform: [1e-4, 1e-2]}}\n"
        "search: {sampler: tpe, studies: 2}\nstopping: {name: asha}\nconfirm: {seeds: 5}\nbudget: {epochs: 10000}\n"
        "arms: {l: {}, v: {base: {method: {name: vicreg}}, scientific: {}}, r: {base: {method: {name: random}}}}\n"
        "contrast: [l, v]\nprofiles: {p: {seeds: 2}}\n"
    )
    spec = sweep(text, profile="p")
    (tmp_path / "resolved.yaml").write_text(spec.to_yaml(), encoding="utf-8")
    assert load_sweep(tmp_path / "resolved.yaml") == spec
    assert spec.search.trials == 16


@pytest.mark.parametrize("word", ["1e3", "0128", "on", "1:30", "2024-01-01", "null", "", "~", ".5", "-1", "#", "a: b"])
def test_words_stay_words_when_written_and_read_again(word: str) -> None:
    assert read(write({"key": word}), "x")[0] == {"key": word} == yaml.safe_load(write({"key": word}))


def test_a_training_is_read_by_its_parts(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("method: {lamb: 0.2}\nepochs: 3\n")
    config = load_training(tmp_path / "t.yaml", ["seed=4"])
    assert (config.method.name, config.epochs, config.seed) == ("lejepa", 3, 4)
    with pytest.raises(SpecError, match=r"t.yaml:1: method.lamb: input should be less|--set method.lamb=2"):
        load_training(tmp_path / "t.yaml", ["method.lamb=2"])


def test_loading_a_sweep_imports_nothing_heavy() -> None:
    heavy = {"torch", "ray", "mlflow", "pandas", "timm", "optuna"}
    code = (
        "import sys; from harness.spec import load_sweep; from harness.plan import plan;"
        "plan(load_sweep('quickstart'));"
        f"print(sorted({heavy!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_folder_of_the_data_is_written_down_so_that_a_resume_finds_it_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("LEJEPA_DATA", str(tmp_path / "here"))
    file = tmp_path / "s.yaml"
    arms = "arms: {a: {}, b: {base: {data: {name: pets}}}, c: {base: {data: {name: digits}}}}"
    file.write_text(f"name: s\nbase: {{data: {{name: cifar10, size: 16}}}}\n{arms}\n")
    (tmp_path / "resolved.yaml").write_text(load_sweep(file).to_yaml())
    monkeypatch.setenv("LEJEPA_DATA", str(tmp_path / "elsewhere"))
    spec = load_sweep(tmp_path / "resolved.yaml")
    roots = [spec.config(cell, 0).data.root for cell in spec.cells()]
    assert roots == [tmp_path / "here", tmp_path / "here", None]
