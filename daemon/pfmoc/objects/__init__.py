"""Object stores: Swift and S3, as clients of their HTTP APIs."""
