"""The benchmark of training speed runs, and pairs what it compares."""

import json

from tests.benchmarks import training_speed


def test_every_epoch_of_this_framework_is_paired_with_one_of_the_loop(
    tmp_path, monkeypatch, capsys
):
    file = tmp_path / "rates.json"
    words = ["--against", "b", "--batches", "512", "--rounds", "2", "--epochs", "2"]
    monkeypatch.setenv("AE_LAB_AUTO_DATA", "no")  # the embedded subset
    monkeypatch.setattr("sys.argv", ["training_speed", *words, "--json", str(file)])
    training_speed.main()
    results = json.loads(file.read_text())
    assert [result["noise"] for result in results] == [False, True]
    for result in results:
        assert {name: len(rates) for name, rates in result["rates"].items()} == {"a": 2, "b": 2}
        assert min(rate for rates in result["rates"].values() for rate in rates) > 0
    assert capsys.readouterr().out.count("a/b ") == 2
