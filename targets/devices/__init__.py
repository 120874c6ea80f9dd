"""Machines that artefacts run on: this one, emulated ARM, over SSH, over adb."""
