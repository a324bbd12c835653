"""The tests' tree is the package's: the test of a file is found by its path."""

from __future__ import annotations

from pathlib import Path

import robust_transfer

PACKAGE, TESTS = Path(robust_transfer.__file__).parent, Path(__file__).parents[1]
WHOLE = "whole"  # tests of the package as a whole, its repository and its command line: they have no twin
# Modules without a test file of their own name, and the file that tests them.
ELSEWHERE = {
    "drawing/rivals": "study/test_fronts",
    "study/front_plots": "study/test_fronts",
    "study/front_tables": "study/test_fronts",
    "strategies/attacked_val": "strategies/test_merge",
    "strategies/inner": "strategies/test_roli",
    "strategies/teacher": "strategies/test_distilled",
    "certification/base": "certification/test_naming",
    "certification/record": "evaluation/test_certifying",
    "certification/regions": "certification/test_bounds",
    "certification/rules": "certification/test_bounds",
    "strategies/bitfit": "strategies/test_partial",
    "strategies/norm_only": "strategies/test_partial",
    "strategies/two_ends": "strategies/test_interpolation",
    "attacks/apgd_t": "attacks/test_apgd",
    "attacks/feature_loss": "attacks/test_source_features",
    "attacks/fgsm": "attacks/test_base",
    "analysis/pictures": "analysis/test_layers",
    "cli/base": "whole/test_bad_input",
    "cli/choose": "whole/test_choose",
    "cli/compare": "whole/test_road",
    "cli/demo": "whole/test_road",
    "cli/doctor": "whole/test_doctor",
    "cli/evaluate": "whole/test_road",
    "cli/listing": "cli/test_catalogue",
    "cli/options": "whole/test_bad_input",
    "cli/push": "publishing/test_publisher",
    "cli/report": "whole/test_road",
    "cli/rank": "ranking/test_ranker",
    "ranking/ranking": "ranking/test_ranker",
    "cli/study": "study/test_study",
    "cli/transfer": "whole/test_road",
    "cli/verify": "whole/test_road",
    "data/classes": "data/test_loading",
    "data/class_order": "data/formats/test_parquet",
    "data/encoded": "data/test_loading",
    "foreign/measuring": "foreign/test_evidence",
    "cli/import_": "whole/test_foreign_sources",
    "cli/inspect": "whole/test_foreign_sources",
    "data/fingerprints": "data/test_duplicates",
    "data/parallel": "data/test_loading",
    "data/shared": "data/test_duplicates",
    "cli/data": "whole/test_road",
    "data/survey/copies": "data/survey/test_describe",
    "data/survey/description": "data/survey/test_describe",
    "data/survey/look": "data/survey/test_describe",
    "data/survey/suspicions": "data/survey/test_describe",
    "data/subsets": "data/test_split",
    "data/torch_items": "data/test_objects",
    "data/formats/base": "whole/test_data_errors",
    "data/formats/class_folders": "data/formats/test_image_folder",
    "data/formats/disk": "data/formats/test_image_folder",
    "data/formats/image_table": "data/formats/test_path_tables",
    "data/formats/members": "data/formats/test_archive",
    "data/formats/named_rows": "data/formats/test_path_tables",
    "data/formats/opening": "whole/test_data_errors",
    "data/formats/parquet_file": "whole/test_data_errors",
    "data/formats/row_paths": "data/formats/test_path_tables",
    "data/formats/split_files": "data/formats/test_parquet",
    "data/formats/table_cells": "data/formats/test_path_tables",
    "data/formats/tables": "data/formats/test_parquet",
    "data/formats/tree": "data/formats/test_image_folder",
    "defaults": "test_threat",
    "demo/page": "whole/test_road",
    "drawing/figures": "drawing/test_inline",
    "errors": "whole/test_bad_input",
    "evaluation/adversary": "evaluation/test_loop",
    "evaluation/deadline": "evaluation/test_loop",
    "evaluation/deltas": "evaluation/test_verification",
    "evaluation/effort": "evaluation/test_sizes",
    "evaluation/flag_sample": "evaluation/test_red_flags",
    "evaluation/knowledge": "evaluation/test_transfer_attacks",
    "evaluation/measurements": "evaluation/test_curve",
    "evaluation/outcomes": "evaluation/test_loop",
    "evaluation/own_val": "evaluation/test_seen",
    "evaluation/renamed": "evaluation/test_evaluator",
    "evaluation/result": "evaluation/test_resume",
    "cli/export": "exporting/test_exporter",
    "exporting/deployed": "exporting/test_exporter",
    "exporting/torch_file": "exporting/test_exporter",
    "foreign/families/dm_preact_resnet": "foreign/families/test_fitting",
    "foreign/families/dm_wide_resnet": "foreign/families/test_fitting",
    "foreign/families/kuangliu_resnet": "foreign/families/test_fitting",
    "foreign/families/matching": "foreign/families/test_torchvision_named",
    "foreign/families/rice_preact_resnet": "foreign/families/test_fitting",
    "foreign/families/trades_wide_resnet": "foreign/families/test_fitting",
    "foreign/archives": "foreign/test_reading",
    "foreign/bytes_of": "foreign/test_reading",
    "foreign/contents": "foreign/test_reading",
    "foreign/kinds": "foreign/test_reading",
    "foreign/numpy_files": "foreign/test_reading",
    "foreign/plain": "foreign/test_pickles",
    "foreign/rebuilding": "foreign/test_pickles",
    "foreign/torch_files": "foreign/test_reading",
    "foreign/values": "foreign/test_pickles",
    "heads": "test_classifier",
    "monitor": "pretraining/test_base",
    "networks/activations": "foreign/families/test_fitting",
    "networks/base": "networks/test_names",
    "networks/convstem": "foreign/families/test_convstem",
    "networks/dm_preact_resnet": "foreign/families/test_fitting",
    "networks/dm_wide_resnet": "foreign/families/test_fitting",
    "networks/from_torchvision": "foreign/families/test_torchvision_named",
    "networks/kuangliu_resnet": "foreign/families/test_fitting",
    "networks/open_clip": "foreign/families/test_clip_visual",
    "networks/resnet": "networks/test_names",
    "networks/rice_preact_resnet": "foreign/families/test_fitting",
    "networks/wide_resnet": "networks/test_names",
    "networks/xcit": "foreign/families/test_xcit",
    "prediction/record": "prediction/test_predictor",
    "pretraining/fast": "pretraining/test_base",
    "pretraining/natural": "pretraining/test_base",
    "pretraining/objective": "pretraining/test_base",
    "pretraining/pgd_at": "pretraining/test_base",
    "production": "strategies/test_base",
    "publishing/page": "publishing/test_publisher",
    "publishing/results": "publishing/test_publisher",
    "publishing/uploading": "publishing/test_publisher",
    "sources/folder": "sources/test_base",
    "sources/packaged": "sources/test_base",
    "strategies/curvature": "strategies/test_newton",
    "strategies/features": "strategies/test_base",
    "strategies/linear_probe": "strategies/test_softmax",
    "strategies/log_loss": "strategies/test_newton",
    "strategies/trained": "strategies/test_fine_tune",
    "study/filters": "whole/test_recipe_runs",
    "study/given_up": "study/test_dispatch",
    "study/local_crew": "study/test_dispatch",
    "study/ray_crew": "study/test_dispatch",
    "study/store": "study/test_study",
    "foreign/classes": "foreign/test_importing",
    "drop_in/progress": "drop_in/test_autoattack",
    "drop_in/running": "drop_in/test_autoattack",
    "foreign/deciding": "foreign/test_importing",
    "foreign/finding": "foreign/test_importing",
    "foreign/fitting": "foreign/test_importing",
    "foreign/hints": "foreign/test_importing",
    "foreign/wrappers": "foreign/test_layout",
    "foreign/normalisations": "foreign/test_importing",
    "sources/address": "sources/test_foreign",
    "sources/file": "sources/test_foreign",
    "foreign/from_timm": "sources/test_timm_named",
    "foreign/published": "sources/test_timm_named",
    "sources/library": "sources/test_torchvision_named",
    "sources/hub": "sources/test_foreign",
    "sources/inspection": "whole/test_foreign_sources",
    "sources/robustbench": "sources/test_foreign",
    "study/report": "study/test_study",
    "report/details": "report/test_page",
    "report/figures": "report/test_page",
    "report/made": "report/test_page",
    "report/words": "report/test_page",
    "study/table": "study/test_study",
    "study/validation": "study/test_recipe",
    "study/work": "study/test_study",
    "trained_on": "evaluation/test_seen",
    "training/batches": "training/test_loop",
    "training/log": "training/test_state",
}


def modules() -> list[str]:
    """Modules by their path in the package, without ``__init__`` and ``__main__``."""
    paths = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__"))
    return sorted(path.with_suffix("").as_posix() for path in paths)


def test_every_test_stands_where_its_module_does() -> None:
    known = set(modules())
    for path in TESTS.rglob("test_*.py"):
        where = path.relative_to(TESTS)
        if where.parts[0] != WHOLE:
            twin = (where.parent / where.stem.removeprefix("test_")).as_posix()
            assert twin in known, f"{where} has no module {twin}.py: move it, or put it in {WHOLE}/"


def test_every_module_has_its_test_or_says_where_it_is() -> None:
    for module in modules():
        own = TESTS / Path(module).parent / f"test_{Path(module).name}.py"
        if not own.exists():
            assert module in ELSEWHERE, f"{module} has no test file: write {own.relative_to(TESTS)}"
        else:
            assert module not in ELSEWHERE, f"{module} has a test file of its own now"


def test_the_list_is_true() -> None:
    assert ELSEWHERE.keys() <= set(modules())
    for where in ELSEWHERE.values():
        assert (TESTS / f"{where}.py").is_file(), where
