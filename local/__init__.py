"""The local Knative: runs what `knative/base` says on this machine, with real stores and real browsers."""
