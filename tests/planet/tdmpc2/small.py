"""Options of a small TD-MPC2 and of a short run of it, for tests of the command line."""

SMALL = [
    "--tdmpc2.encoder_units", "8", "--tdmpc2.units", "16", "--tdmpc2.latent", "16",
    "--tdmpc2.num_q", "2", "--planner.candidates", "12", "--planner.elites", "4",
    "--planner.policy_candidates", "4", "--planner.iterations", "2", "--replay.batch", "8",
    "--run.eval_episodes", "1", "--run.pretrain", "5", "--run.random_episodes", "1",
    "--run.prefill_episodes", "1", "--env.time_limit", "40", "--run.prefill", "40",
]  # fmt: skip
