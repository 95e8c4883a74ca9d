"""Kubernetes, its DNS and storage, simulated nodes, and OpenShift's API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolchain import products
from toolchain.errors import ToolchainError

# The stages that make simulated nodes ready and their pods run and complete: at once, or with each step shown.
_NODE_STAGES = ("node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease")
_STAGES = {
    "fast": (*_NODE_STAGES, "pod/fast/pod-ready", "pod/fast/pod-complete", "pod/fast/pod-delete"),
    "general": (
        *_NODE_STAGES,
        "pod/general/pod-create",
        "pod/general/pod-init-container-running",
        "pod/general/pod-init-container-completed",
        "pod/general/pod-ready",
        "pod/general/pod-complete",
        "pod/general/pod-delete",
    ),
}

# Resources that OpenShift has as CRDs. In its release of that time each file may come in several feature sets; these are
# the ones without one, or the default.
_CRDS = (
    "authorization/v1/*rolebindingrestriction.crd.yaml",
    "config/v1/0000_00_cluster-version-operator_01_clusteroperator.crd.yaml",
    "config/v1/0000_00_cluster-version-operator_01_clusterversion.crd.yaml",
    "config/v1/0000_10_config-operator_01_build.crd.yaml",
    "config/v1/0000_10_config-operator_01_image.crd.yaml",
    "config/v1/0000_10_config-operator_01_imagecontentpolicy.crd.yaml",
    "config/v1/0000_10_config-operator_01_imagedigestmirrorset.crd.yaml",
    "config/v1/0000_10_config-operator_01_imagetagmirrorset.crd.yaml",
    "config/v1/0000_10_config-operator_01_infrastructure-Default.crd.yaml",
    "config/v1/0000_10_config-operator_01_ingress.crd.yaml",
    "config/v1/0000_10_config-operator_01_network.crd.yaml",
    "config/v1/0000_10_config-operator_01_node.crd.yaml",
    "config/v1/0000_10_config-operator_01_project.crd.yaml",
    "config/v1/0000_10_config-operator_01_scheduler.crd.yaml",
    "machine/v1beta1/0000_10_machine.crd.yaml",
    "machine/v1beta1/0000_10_machineset.crd.yaml",
    "operator/v1alpha1/*imagecontentsourcepolicy.crd.yaml",
    "quota/v1/*clusterresourcequota.crd.yaml",
    "security/v1/*scc.crd.yaml",
)


@dataclass(frozen=True, kw_only=True)
class Kube(products.GoProduct):
    """All of Kubernetes in one program, and the pause program of its pods."""

    def make(self, order: products.Order) -> dict[Path, Path]:
        """Build it, and name its components."""
        super().make(order)
        for name in self.accept:
            (order.draft / "bin" / name).symlink_to("kube")
        return {}

    def complete(self, order: products.Order) -> None:
        """No machine has a pause program outside of an image: it is always built."""
        pause = order.draft / "bin" / "pause"
        if not pause.exists():
            (module,) = self.modules
            self.build(order, module, self.source(order, module), {pause: "./pause"}, 0.0)


@dataclass(frozen=True, kw_only=True)
class Kwok(products.GoProduct):
    """The simulator of nodes, and the stages that its nodes and pods go through."""

    def complete(self, order: products.Order) -> None:
        """Write one file for each set of stages."""
        (module,) = self.modules
        origin = order.go.module(self.source(order, module), module.pinned) / "kustomize" / "stage"
        (order.draft / "stages").mkdir()
        for name, parts in _STAGES.items():
            documents = [(origin / f"{part}.yaml").read_text().strip() for part in parts]
            (order.draft / "stages" / f"{name}.yaml").write_text("\n---\n".join(documents) + "\n")


@dataclass(frozen=True, kw_only=True)
class Openshift(products.GoProduct):
    """OpenShift's API server, and the CRDs beside it.

    :param library: the module that a method is added to: module@version, and the sum of its content
    :param api: the module that has the CRDs
    """

    library: tuple[str, str]
    api: str

    def prepare(self, order: products.Order, module: products.Module, source: Path) -> None:  # noqa: ARG002 - there is one module
        """Complete the copy of the library, of which the role's files hold the added method only."""
        path, sum_ = self.library
        origin = order.go.foreign_module(source, path, sum_)
        products.copy_tree(origin, source / "apiserver")

    def complete(self, order: products.Order) -> None:
        """Copy the CRDs."""
        (module,) = self.modules
        origin = order.go.module(self.source(order, module), self.api)
        target = order.draft / "crds"
        target.mkdir()
        for pattern in _CRDS:
            found = list(origin.glob(pattern))
            if len(found) != 1:
                raise ToolchainError(f"{self.api} has {len(found)} files {pattern}; one is expected. Mend _CRDS in {__file__}")
            (target / found[0].name).write_bytes(found[0].read_bytes())
