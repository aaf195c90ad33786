"""Boards: what logs say of attackers and defenders, judged and audited."""
