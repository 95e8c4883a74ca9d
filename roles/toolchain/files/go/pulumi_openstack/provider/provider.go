// Package provider bridges Terraform's OpenStack provider to Pulumi. It is this project's own bridge and not
// github.com/pulumi/pulumi-openstack, which no module proxy serves; the resources' tokens are those of the pulumi-openstack
// package on PyPI, so that programs written for upstream's plugin run with this one.
package provider

import (
	_ "embed"
	"encoding/json"

	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	shim "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim"
	sdk "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/terraform-provider-openstack/terraform-provider-openstack/v3/openstack"
)

// Version is the plugin's, set by the linker.
var Version = "0.0.0"

// maxNameLength is OpenStack's, for nearly every kind of resource.
const maxNameLength = 255

//go:embed tokens.json
var tokensDocument []byte

// Info describes the bridge: which Terraform resource is which Pulumi resource. What has no token is left out.
func Info() tfbridge.ProviderInfo {
	var known struct{ Resources, Functions map[string]string }
	if err := json.Unmarshal(tokensDocument, &known); err != nil {
		panic(err)
	}
	terraform := sdk.NewProvider(openstack.Provider())
	info := tfbridge.ProviderInfo{
		P:           terraform,
		Name:        "openstack",
		Version:     Version,
		Resources:   map[string]*tfbridge.ResourceInfo{},
		DataSources: map[string]*tfbridge.DataSourceInfo{},
	}
	terraform.ResourcesMap().Range(func(name string, _ shim.Resource) bool {
		if token, ok := known.Resources[name]; ok {
			info.Resources[name] = &tfbridge.ResourceInfo{Tok: tokens.Type(token)}
		} else {
			info.IgnoreMappings = append(info.IgnoreMappings, name)
		}
		return true
	})
	terraform.DataSourcesMap().Range(func(name string, _ shim.Resource) bool {
		if token, ok := known.Functions[name]; ok {
			info.DataSources[name] = &tfbridge.DataSourceInfo{Tok: tokens.ModuleMember(token)}
		} else {
			info.IgnoreMappings = append(info.IgnoreMappings, name)
		}
		return true
	})
	// Pulumi keeps the name "outputs" for itself; upstream gives the field this one.
	info.Resources["openstack_orchestration_stack_v1"].Fields = map[string]*tfbridge.SchemaInfo{
		"outputs": {Name: "StackOutputs"},
	}
	info.SetAutonaming(maxNameLength, "-")
	return info
}
