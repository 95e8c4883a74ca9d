// Command plugin is pulumi-resource-openstack.
package main

import (
	_ "embed"

	"localhost/pulumi-openstack/provider"

	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
)

//go:embed schema-embed.json
var schema []byte

func main() {
	tfbridge.Main("openstack", provider.Version, provider.Info(), schema)
}
