// swift-tools-version: 6.0
import Foundation
import PackageDescription

/// Where a build of the library stands beside this package: in a checkout, or in a prefix (share/gomlx/swift beside
/// lib). Elsewhere pkg-config says where it is.
let beside = ["/../../target/release", "/../../../lib"]
    .map { Context.packageDirectory + $0 }
    .first { folder in
        ["libgomlx.so", "libgomlx.dylib"].contains { FileManager.default.fileExists(atPath: folder + "/" + $0) }
    }

/// What scripts/apple/xcframework makes on a Mac, for apps.
let framework = "CGomlx.xcframework"
let hasFramework = FileManager.default.fileExists(atPath: Context.packageDirectory + "/" + framework)

let library: Target =
    hasFramework
    ? .binaryTarget(name: "CGomlx", path: framework)
    : .systemLibrary(name: "CGomlx", pkgConfig: beside == nil ? "gomlx" : nil)

/// Flags are only there where the package lies beside a library: SwiftPM allows them in packages that are used by path.
let links: [LinkerSetting] =
    if let beside, !hasFramework {
        [.unsafeFlags(["-L" + beside, "-Xlinker", "-rpath", "-Xlinker", beside])]
    } else {
        []
    }

let package = Package(
    name: "Gomlx",
    platforms: [.macOS(.v15), .iOS(.v18), .visionOS(.v2)],
    products: [.library(name: "Gomlx", targets: ["Gomlx"])],
    targets: [
        library,
        .target(name: "Gomlx", dependencies: ["CGomlx"], linkerSettings: links),
        .testTarget(name: "GomlxTests", dependencies: ["Gomlx"]),
        .executableTarget(name: "Boundary", dependencies: ["Gomlx", "CGomlx"], path: "Benchmarks/Boundary"),
    ],
    swiftLanguageModes: [.v6]
)
