"""Scope fetchers of no source: a list, a label in Prometheus, projects of Keystone, namespaces of Kubernetes."""
