"""Arm Ethos-U: artefacts for TFLite, compiled by Vela."""
