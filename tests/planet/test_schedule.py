"""PlaNet's schedule in the shared run loop: whole episodes, then many updates."""

from __future__ import annotations

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
