"""PlaNet's schedule in the shared run loop: whole episodes, then many updates."""

from __future__ import annotations

from common.logging import read_jsonl
from tests.run.test_train import counters, metrics, run


def test_updates_after_every_episode(tmp_path):
    """Episodes of 5 steps: learning starts with the fourth, 3 updates after each of 17."""
    options = {"run__prefill": 0, "run__prefill_episodes": 3, "run__updates_per_episode": 3}
    run(tmp_path, run__eval_episodes=0, run__random_episodes=0, **options)
    found = counters(tmp_path)
    assert (found["agent_steps"], found["episodes"]) == (100, 20)
    # 3 of pretraining; the last decision falls before the last episode ends.
    assert found["updates"] == 3 + 3 * (19 - 3)
    learned = [frames for frames, count in metrics(tmp_path, "time/updates") if count]
    assert learned[0] == 20
    run(tmp_path, run__eval_episodes=0, run__random_episodes=0, run__frames=150, **options)
    assert counters(tmp_path)["updates"] == 3 + 3 * (29 - 3)


def test_of_several_tasks_a_round_is_as_many_episodes_as_there_are_tasks(tmp_path, capsys):
    """Two tasks: learning starts with the seventh episode."""
    options = {"run__prefill": 0, "run__prefill_episodes": 3, "run__updates_per_episode": 4}
    options |= {"task": "tests.envs.known:Echo,tests.envs.known:Wind", "run__frames": 200}
    run(tmp_path, run__eval_episodes=0, run__random_episodes=0, **options)
    assert "4 updates per 2 episodes" in capsys.readouterr().out
    found = counters(tmp_path)
    # Three episodes for each task, then 3 updates of pretraining, then 4 after every second.
    assert found["ratio"][0] == 3
    decided = sum(line["frames"] < 200 for line in read_jsonl(tmp_path / "scores.jsonl"))
    assert decided > 20 and found["updates"] == 3 + 4 * (decided // 2 - 3)
