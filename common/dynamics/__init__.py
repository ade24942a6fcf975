"""Latent dynamics models behind one protocol, common.dynamics.base.Dynamics."""
