// Command openshift-apiserver is upstream's cmd/openshift-apiserver: the same command, without the profiler that its main
// starts when OPENSHIFT_PROFILE asks for it.
package main

import (
	"os"

	apiserver "github.com/openshift/openshift-apiserver/pkg/cmd/openshift-apiserver"
	"github.com/spf13/cobra"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/version/verflag"
)

func main() {
	stop := server.SetupSignalHandler()
	root := &cobra.Command{
		Use: "openshift-apiserver",
		// --version is a flag of the root; without a subcommand there is nothing else to do.
		Run: func(command *cobra.Command, _ []string) {
			verflag.PrintAndExitIfRequested()
			_ = command.Help()
		},
	}
	verflag.AddFlags(root.Flags())
	root.AddCommand(apiserver.NewOpenShiftAPIServerCommand("start", os.Stdout, os.Stderr, stop))
	os.Exit(cli.Run(root))
}
