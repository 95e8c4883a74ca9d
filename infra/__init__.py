"""The sites: what they are (``infra.spec``), and the Pulumi program that makes the clouds match them."""
