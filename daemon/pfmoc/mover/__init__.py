"""The mover: what pulls a job's input into its pod, and publishes its output from there.

It runs beside every plugin, most of the time idle, so it is made of the standard library: it starts in a fraction of a second and
stays below 20 MiB. It knows no credentials of Swift, only rights to its own job's names, and only until they expire.
"""
