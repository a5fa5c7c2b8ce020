"""What is counted in steps stays right under the trainer's settings, undisturbed and killed."""

import pytest

from tests.steps import ALL, PHASES, check

# Each pair of choices occurs, and each phase. `make kills` takes all of both.
SETTINGS = [ALL[place] for place in (0, 5, 10, 15, 18, 21)]
SOME = [(PHASES[n % 5], PHASES[(n + 2) % 5]) for n in range(len(SETTINGS))]


@pytest.mark.parametrize(("choices", "phases"), list(zip(SETTINGS, SOME, strict=True)))
def test_counters_are_those_of_a_loop_by_hand_and_survive_kills(choices, phases, tmp_path):
    assert list(check(choices, tmp_path, phases)) == list(phases)
