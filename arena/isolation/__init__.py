"""Agents in processes of their own, which hold neither classifier nor defenders, data, seeds or other agents
(docs/design.md, D12)."""
