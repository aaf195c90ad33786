"""Adversarial attack on attackers (Chen et al., NeurIPS 2022), linear and sine."""
