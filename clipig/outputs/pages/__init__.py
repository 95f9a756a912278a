"""Static pages: grid explorer, ranking report and contact sheet.

Every page works from `file://`, without a server, network access or a build step.
"""
