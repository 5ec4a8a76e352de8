"""How good imagined frames are: metrics, protocols, reports."""
