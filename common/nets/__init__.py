"""Neural network modules that know no reinforcement learning."""
