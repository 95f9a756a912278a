"""Static pages: grid explorer, ranking report and contact sheet.

Every page works from `file://`: no server, no network, no build step.
"""
