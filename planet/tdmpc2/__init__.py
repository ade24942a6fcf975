"""TD-MPC2 (arXiv:2310.16828): a latent model without a decoder, a policy and an ensemble of values.

It is learned as in the public code; ``model`` offers planners what it has learned.
"""
