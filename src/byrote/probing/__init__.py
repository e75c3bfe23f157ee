"""Probes of a population in training: what its losses, gradients and second derivatives say at some of its steps."""

from byrote.probing.objectives import Examined, loss_of, objectives

__all__ = ["Examined", "loss_of", "objectives"]
