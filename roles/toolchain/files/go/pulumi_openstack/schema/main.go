// Command schema writes the package schema that the plugin embeds.
package main

import (
	"localhost/pulumi-openstack/provider"

	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfgen"
)

func main() {
	tfgen.Main("openstack", provider.Version, provider.Info())
}
