// swift-tools-version: 6.0
// The package of somebody who has the Swift sources and an installed prefix: scripts/swift-tests builds it.
import PackageDescription

let package = Package(
    name: "hello",
    dependencies: [.package(name: "Gomlx", path: "../gomlx")],
    targets: [.executableTarget(name: "hello", dependencies: ["Gomlx"])]
)
