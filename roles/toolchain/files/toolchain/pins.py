"""Everything that is made, with its versions.

A Go product's version is the one that ``go.mod`` of its directory below files/go requires; ``go.mod`` and ``go.sum`` there
pin it and all that it is linked with. README.md of the role tells how to change one. Go itself and what comes from PyPI are
pinned in files/python. CPU minutes and MiB are about what a build from empty caches takes; the estimate that people see begins
with the minutes, and follows the machine's own pace.
"""

from __future__ import annotations

from collections.abc import Mapping

from toolchain import kubernetes, products, pulumi, runtime
from toolchain.products import Module
from toolchain.runtime import Package
from toolchain.versions import Range

# 1.35 is the last kubelet that speaks to containerd 1.x, which is what Debian 12 has. The staging modules of this release
# are all served, which is not so for every release.
_KUBERNETES = Range(">=1.35,<1.36")
_COMPONENT = "k8s.io/component-base/version"

KUBE = kubernetes.Kube(
    name="kube",
    modules=(
        Module(
            directory="kube",
            programs={"kube": ".", "pause": "./pause"},
            pinned="k8s.io/kubernetes",
            ldflags=f"-X {_COMPONENT}.gitVersion=v{{version}} -X {_COMPONENT}.gitMajor=1 -X {_COMPONENT}.gitMinor=35"
            f" -X {_COMPONENT}.gitTreeState=archive -X {_COMPONENT}.buildDate=1970-01-01T00:00:00Z",
        ),
    ),
    accept={
        "etcd": Range(">=3.5.24,<3.7"),
        "kube-apiserver": _KUBERNETES,
        "kube-controller-manager": _KUBERNETES,
        "kube-proxy": _KUBERNETES,
        "kube-scheduler": _KUBERNETES,
        "kubectl": _KUBERNETES,
        "kubelet": _KUBERNETES,
    },
    cpu_minutes=10,
    disk_mib=5000,
)

COREDNS = products.GoProduct(
    name="coredns",
    modules=(Module(directory="coredns", programs={"coredns": "."}, pinned="github.com/coredns/coredns"),),
    accept={"coredns": Range(">=1.12,<2")},
    cpu_minutes=5,
    disk_mib=1500,
)

STORAGE = products.GoProduct(
    name="storage",
    modules=(
        Module(
            directory="storage",
            programs={"local-path-provisioner": "github.com/rancher/local-path-provisioner"},
            pinned="github.com/rancher/local-path-provisioner",
            ldflags="-X main.VERSION=v{version}",
        ),
    ),
    accept={"local-path-provisioner": Range(">=0.0.30,<0.1")},
    cpu_minutes=4.5,
    disk_mib=1500,
)

KWOK = kubernetes.Kwok(
    name="kwok",
    modules=(Module(directory="kwok", programs={"kwok": "sigs.k8s.io/kwok/cmd/kwok"}, pinned="sigs.k8s.io/kwok"),),
    accept={"kwok": Range(">=0.8,<0.9")},
    cpu_minutes=6,
    disk_mib=2000,
)

OPENSHIFT = kubernetes.Openshift(
    name="openshift",
    modules=(
        Module(
            directory="openshift",
            programs={"openshift-apiserver": "."},
            pinned="github.com/openshift/openshift-apiserver",
            # Of the day of its commit; these libraries are what it has of a version.
            release="4.14",
            ldflags=f"-X {_COMPONENT}.gitVersion=v1.26.2 -X {_COMPONENT}.gitMajor=1 -X {_COMPONENT}.gitMinor=26",
        ),
    ),
    library=("k8s.io/apiserver@v0.26.2", "h1:Pk8lmX4G14hYqJd1poHGC08G03nIHVqdJMR0SD3IH3o="),
    api="github.com/openshift/api",
    accept={},
    cpu_minutes=6,
    disk_mib=3500,
)

PULUMI = pulumi.Engine(
    name="pulumi",
    modules=(
        Module(
            directory="pulumi",
            programs={"pulumi": "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"},
            pinned="github.com/pulumi/pulumi/pkg/v3",
            ldflags="-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{version}",
        ),
        Module(
            directory="pulumi_language_python",
            programs={"pulumi-language-python": "github.com/pulumi/pulumi/sdk/python/cmd/pulumi-language-python/v3"},
            pinned="github.com/pulumi/pulumi/sdk/python/cmd/pulumi-language-python/v3",
            # What upstream released from the commit of the pseudo-version. It is linked with the libraries of the next
            # release: this one's are not in the checksum database.
            release="3.184.0",
            ldflags="-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v{version}",
        ),
    ),
    # Not older than the Python package that it runs.
    accept={"pulumi": Range(">=3.259,<4")},
    beside=("pulumi-language-python", "pulumi-language-python-exec"),
    cpu_minutes=9,
    disk_mib=3500,
)

PULUMI_KUBERNETES = pulumi.KubernetesPlugin(
    name="pulumi_kubernetes",
    provider="kubernetes",
    modules=(
        Module(
            directory="pulumi_kubernetes",
            programs={"pulumi-resource-kubernetes": "."},
            pinned="github.com/pulumi/pulumi-kubernetes/provider/v4",
            # The pseudo-version's commit is the tag v4.25.0.
            release="4.25.0",
            ldflags="-X github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version.Version={version}",
        ),
    ),
    accept={},
    cpu_minutes=14,
    disk_mib=7000,
)

PULUMI_OPENSTACK = pulumi.OpenstackPlugin(
    name="pulumi_openstack",
    provider="openstack",
    modules=(
        Module(
            directory="pulumi_openstack",
            programs={"pulumi-resource-openstack": "./plugin"},
            pinned="github.com/terraform-provider-openstack/terraform-provider-openstack/v3",
            # That of the Python package whose tokens it has.
            release="5.5.3",
            ldflags="-X localhost/pulumi-openstack/provider.Version={version}+local.bridge",
        ),
    ),
    accept={},
    cpu_minutes=7,
    disk_mib=3500,
)

RUNTIME = runtime.Runtime(
    name="runtime",
    packages=(
        Package(
            name="containerd",
            programs={
                "containerd": "usr/bin/containerd",
                "containerd-shim-runc-v2": "usr/bin/containerd-shim-runc-v2",
                "ctr": "usr/bin/ctr",
            },
            accept=Range(">=1.6,<2"),
        ),
        Package(name="runc", programs={"runc": "usr/sbin/runc"}, accept=Range(">=1.1,<2")),
        Package(name="containernetworking-plugins", programs={}, files=("usr/lib/cni",)),
        Package(name="nftables", programs={"nft": "usr/sbin/nft"}, accept=Range(">=1.0.1,<2"), shared=True),
        Package(name="haproxy", programs={"haproxy": "usr/sbin/haproxy"}, accept=Range(">=2.4,<4"), shared=True),
        # Images are made of these two, and a machine's own may not be static.
        Package(name="busybox-static", programs={"busybox": "bin/busybox"}),
        Package(name="busybox-static", programs={"busybox-ppc64le": "bin/busybox"}, architecture="ppc64el"),
        Package(
            name="qemu-user-static",
            programs={"qemu-ppc64le-static": "usr/bin/qemu-ppc64le-static"},
            accept=Range(">=7,<12"),
        ),
    ),
    accept={},
    cpu_minutes=0.5,
    disk_mib=500,
)

PRODUCTS: Mapping[str, products.Product] = {
    product.name: product
    for product in (RUNTIME, KUBE, COREDNS, STORAGE, KWOK, OPENSHIFT, PULUMI, PULUMI_KUBERNETES, PULUMI_OPENSTACK)
}
